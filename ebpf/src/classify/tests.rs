use super::candidates::words_of;
use super::lowest_bit;
use crate::abi::BLOCK_WORDS;

#[test]
fn words_of_every_bit() {
    for word in 0..BLOCK_WORDS {
        for bit in 0..64 {
            let mut block = [0; BLOCK_WORDS];
            block[word] = 1 << bit;
            assert_eq!(words_of(&block), 1 << word);
            block[word] = !0 << bit;
            assert_eq!(words_of(&block), 1 << word);
        }
    }
    assert_eq!((words_of(&[0; _]), words_of(&[!0; _])), (0, 0xff));
}

#[test]
fn lowest_bit_of_every_bit() {
    for bit in 0..64 {
        assert_eq!(lowest_bit(1 << bit), bit);
        assert_eq!(lowest_bit(!0 << bit), bit);
    }
}
