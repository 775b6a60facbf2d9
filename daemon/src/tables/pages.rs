//! A table in pages, which copies of it share until one of them changes. So the table of a file
//! with one filter changed is made, and compared with the table before, in the time of one page.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use bytemuck::Pod;

/// Bytes of a page, but for what a whole element does not fill.
const MOST_BYTES: usize = 4096;

/// The elements of a table.
#[derive(Debug, Clone)]
pub struct Pages<T> {
    /// Each as long as the others; what is behind the last element is zero.
    pages: Vec<Arc<[T]>>,
    length: usize,
}

impl<T: Pod> Pages<T> {
    /// Elements of a page.
    const ELEMENTS: usize = if size_of::<T>() < MOST_BYTES {
        MOST_BYTES / size_of::<T>()
    } else {
        1
    };
    /// Bytes of a page.
    pub(super) const PAGE_BYTES: usize = Self::ELEMENTS * size_of::<T>();

    /// So many zeros.
    pub fn zeroed(length: usize) -> Self {
        let mut zeroed = Self {
            pages: Vec::new(),
            length: 0,
        };
        zeroed.grow(length);
        zeroed
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// An element; `None` beyond the last.
    pub fn get(&self, number: usize) -> Option<&T> {
        (number < self.length).then(|| &self[number])
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        let whole = self.length / Self::ELEMENTS;
        let rest = self
            .pages
            .get(whole)
            .map_or(&[][..], |page| &page[..self.length % Self::ELEMENTS]);
        self.pages[..whole]
            .iter()
            .flat_map(|page| page.iter())
            .chain(rest)
    }

    /// A copy of them.
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().copied().collect()
    }

    /// Makes the table at least that long, by zeros.
    pub fn grow(&mut self, length: usize) {
        self.length = self.length.max(length);
        let missing = self
            .length
            .div_ceil(Self::ELEMENTS)
            .saturating_sub(self.pages.len());
        if missing > 0 {
            let zeros: Arc<[T]> = vec![T::zeroed(); Self::ELEMENTS].into();
            self.pages.extend(std::iter::repeat_n(zeros, missing));
        }
    }

    /// Stores an element. One that is the same already changes nothing.
    ///
    /// # Panics
    /// The table is shorter.
    pub fn set(&mut self, number: usize, value: T) {
        if bytemuck::bytes_of(&self[number]) != bytemuck::bytes_of(&value) {
            self[number] = value;
        }
    }

    /// What is in a page, without what is behind the last element; nothing beyond the last page.
    pub(super) fn page(&self, number: usize) -> &[u8] {
        let first = number * Self::ELEMENTS;
        let Some(page) = self.pages.get(number) else {
            return &[];
        };
        bytemuck::cast_slice(&page[..(self.length - first).min(Self::ELEMENTS)])
    }

    /// Stores bytes at an offset.
    pub(super) fn store(&mut self, mut offset: usize, mut bytes: &[u8]) {
        assert!(
            offset + bytes.len() <= self.length * size_of::<T>(),
            "a store beyond the last element"
        );
        while !bytes.is_empty() {
            let (number, at) = (offset / Self::PAGE_BYTES, offset % Self::PAGE_BYTES);
            let (here, rest) = bytes.split_at(bytes.len().min(Self::PAGE_BYTES - at));
            let page: &mut [u8] = bytemuck::cast_slice_mut(Arc::make_mut(&mut self.pages[number]));
            page[at..at + here.len()].copy_from_slice(here);
            (offset, bytes) = (offset + here.len(), rest);
        }
    }

    /// Whether a page is known to be equal in both, without reading it.
    fn shares(&self, other: &Self, number: usize) -> bool {
        match (self.pages.get(number), other.pages.get(number)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// A table of `length` elements whose bytes `read` copies from an offset; pages that equal
    /// those in `known` are shared with it.
    ///
    /// # Errors
    /// `read` fails.
    pub fn read<E>(
        length: usize,
        known: Option<&Self>,
        mut read: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut table = Self::zeroed(length);
        let mut buffer = vec![T::zeroed(); Self::ELEMENTS];
        for number in 0..table.pages.len() {
            let first = number * Self::ELEMENTS;
            let elements = (length - first).min(Self::ELEMENTS);
            buffer[elements..].fill(T::zeroed());
            read(
                first * size_of::<T>(),
                bytemuck::cast_slice_mut(&mut buffer[..elements]),
            )?;
            let bytes: &[u8] = bytemuck::cast_slice(&buffer);
            let is_same = |page: &Arc<[T]>| bytemuck::cast_slice::<T, u8>(page) == bytes;
            let there = known
                .and_then(|known| known.pages.get(number))
                .filter(|page| is_same(page));
            if let Some(page) = there {
                table.pages[number] = page.clone();
            } else if !is_same(&table.pages[number]) {
                table.pages[number] = buffer.as_slice().into();
            }
        }
        Ok(table)
    }
}

impl<T: Pod> Index<usize> for Pages<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        assert!(number < self.length, "element {number} of {}", self.length);
        &self.pages[number / Self::ELEMENTS][number % Self::ELEMENTS]
    }
}

impl<T: Pod> IndexMut<usize> for Pages<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        assert!(number < self.length, "element {number} of {}", self.length);
        &mut Arc::make_mut(&mut self.pages[number / Self::ELEMENTS])[number % Self::ELEMENTS]
    }
}

impl<'p, T: Pod> IntoIterator for &'p Pages<T> {
    type Item = &'p T;
    type IntoIter = Box<dyn Iterator<Item = &'p T> + 'p>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<T: Pod> PartialEq for Pages<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |number| self.shares(other, number) || self.page(number) == other.page(number);
        self.length == other.length && (0..self.pages.len()).all(same)
    }
}

impl<T: Pod> FromIterator<T> for Pages<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let elements: Vec<T> = elements.into_iter().collect();
        let mut table = Self::zeroed(elements.len());
        for (page, elements) in table.pages.iter_mut().zip(elements.chunks(Self::ELEMENTS)) {
            Arc::make_mut(page)[..elements.len()].copy_from_slice(elements);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: u64) -> Pages<u64> {
        (0..count).collect()
    }

    #[test]
    fn elements_are_found_wherever_they_stand() {
        for count in [0, 1, 511, 512, 513, 5000] {
            let table = numbers(count);
            assert_eq!(
                table.iter().copied().collect::<Vec<_>>(),
                (0..count).collect::<Vec<_>>()
            );
            assert!(table.iter().rev().copied().eq((0..count).rev()));
            assert_eq!(
                (table.len() as u64, table.get(count as usize)),
                (count, None)
            );
            assert!((0..count).all(|number| table[number as usize] == number));
        }
    }

    #[test]
    fn copies_share_what_has_not_changed() {
        let table = numbers(2000);
        let mut other = table.clone();
        other.set(600, 600);
        assert!((0..4).all(|page| table.shares(&other, page)));
        other.set(600, 7);
        assert_eq!(
            (0..4)
                .filter(|&page| !table.shares(&other, page))
                .collect::<Vec<_>>(),
            [1]
        );
        assert!(table != other && table[600] == 600);
        other.set(600, 600);
        assert!(table == other);
    }

    #[test]
    fn it_grows_by_zeros() {
        let mut table = numbers(3);
        table.grow(2);
        table.grow(1000);
        assert_eq!(
            (table.len(), table[2], table[3], table[999]),
            (1000, 2, 0, 0)
        );
        assert!(table != numbers(3));
    }

    #[test]
    fn bytes_are_stored_over_the_ends_of_pages() {
        let mut table = numbers(2000);
        table.store(8 * 510, bytemuck::cast_slice(&[1_u64, 2, 3, 4]));
        assert_eq!(
            [509, 510, 511, 512, 513, 514].map(|number| table[number]),
            [509, 1, 2, 3, 4, 514]
        );
    }

    #[test]
    fn what_is_read_shares_what_is_known() {
        let known = numbers(1500);
        let mut bytes: Vec<u64> = (0..3000).collect();
        bytes[513] = 0;
        bytes[2048..].fill(0);
        let source: &[u8] = bytemuck::cast_slice(&bytes);
        let read = |at: usize, to: &mut [u8]| {
            to.copy_from_slice(&source[at..at + to.len()]);
            Ok::<(), ()>(())
        };
        let table = Pages::<u64>::read(3000, Some(&known), read).unwrap();
        assert!(table.iter().eq(&bytes));
        assert_eq!(
            (0..3)
                .map(|page| table.shares(&known, page))
                .collect::<Vec<_>>(),
            [true, false, false]
        );
        assert!(
            table.shares(&table, 5) && Arc::ptr_eq(&table.pages[4], &table.pages[5]),
            "one page of zeros is enough"
        );
    }
}
