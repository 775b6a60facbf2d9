//! Input: hosts(5). Output: the addresses that it has for a name. DNS is not asked about such a name.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use traffic_mirror_resolver::{Failure, Name};

use crate::ask::{Family, NO_TTL};
use crate::cache::Answer;

/// Bytes of the file that are read: lists of names to block may be long.
const MOST_BYTES: u64 = 32 << 20;

/// The names of the file, in small letters.
#[derive(Debug, Default)]
struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    fn parse(text: &str) -> Self {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else {
                continue;
            };
            for name in words {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                hosts.entry(name).or_default().push(address);
            }
        }
        Self(hosts)
    }

    /// The answer for a name; `None` if the file does not have it.
    fn answer(&self, name: &Name, family: Family) -> Option<Answer> {
        let addresses = self.0.get(name.as_str())?.iter();
        let addresses = addresses.copied().filter(|address| family.has(*address));
        let addresses: Vec<(IpAddr, u32)> = addresses.map(|address| (address, NO_TTL)).collect();
        Some(if addresses.is_empty() {
            Err(Failure::NoAddress)
        } else {
            Ok(addresses)
        })
    }
}

/// The file, read again when it has changed.
#[derive(Debug, Default)]
pub(crate) struct HostsFile(Mutex<Option<(Identity, Arc<Hosts>)>>);

/// Device, inode, size, and time of the last change (`st_ctime`) of a file.
type Identity = (u64, u64, u64, i64, i64);

impl HostsFile {
    /// The answer for a name; `None` if the file does not have it.
    ///
    /// # Errors
    /// The file cannot be read. One that is missing is empty.
    pub(crate) fn answer(
        &self,
        path: &Path,
        name: &Name,
        family: Family,
    ) -> io::Result<Option<Answer>> {
        Ok(self.current(path)?.answer(name, family))
    }

    fn current(&self, path: &Path) -> io::Result<Arc<Hosts>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Arc::default());
            }
            file => file?,
        };
        let identity = identity(&file.metadata()?);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, hosts)) = &*last
            && *before == identity
        {
            return Ok(Arc::clone(hosts));
        }
        let mut text = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut text)?;
        let hosts = Arc::new(Hosts::parse(&String::from_utf8_lossy(&text)));
        *last = Some((identity, Arc::clone(&hosts)));
        Ok(hosts)
    }
}

fn identity(file: &Metadata) -> Identity {
    (
        file.dev(),
        file.ino(),
        file.size(),
        file.ctime(),
        file.ctime_nsec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn answer(hosts: &Hosts, text: &str, family: Family) -> Option<Result<Vec<String>, Failure>> {
        let answer = hosts.answer(&name(text), family)?;
        let shown = |list: Vec<(IpAddr, u32)>| list.iter().map(|(a, _)| a.to_string()).collect();
        Some(answer.map(shown))
    }

    #[test]
    fn names_and_aliases_of_both_families() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n192.0.2.1\tDB.example db # the first\n\
             192.0.2.2 db\n2001:db8::1 db.\nfe80::1%lo0 db\n# 192.0.2.9 db\nx db\n192.0.2.3\n",
        );
        let both = Some(Ok(vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()]));
        assert_eq!(answer(&hosts, "db", Family::Four), both);
        let six = Some(Ok(vec!["2001:db8::1".to_owned()]));
        assert_eq!(answer(&hosts, "DB", Family::Six), six);
        let none = Some(Err(Failure::NoAddress));
        assert_eq!(answer(&hosts, "db.example", Family::Six), none);
        assert_eq!(answer(&hosts, "other.example", Family::Four), None);
    }

    #[test]
    fn the_file_is_read_again_when_it_has_changed() {
        let directory = std::env::temp_dir().join(format!("hosts-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (path, file) = (directory.join("hosts"), HostsFile::default());
        let ask = || file.answer(&path, &name("db"), Family::Four).unwrap();
        assert_eq!(ask(), None);
        std::fs::write(&path, "192.0.2.1 db\n").unwrap();
        assert_eq!(
            ask(),
            Some(Ok(vec![("192.0.2.1".parse().unwrap(), NO_TTL)]))
        );
        std::fs::write(&path, "192.0.2.200 db\n").unwrap();
        assert_eq!(
            ask(),
            Some(Ok(vec![("192.0.2.200".parse().unwrap(), NO_TTL)]))
        );
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(ask(), None);
    }
}
