//! What the daemon and `traffic-mirror-resolver` exchange: the list of names that the daemon wants
//! addresses of, and the file with the addresses that the resolver keeps. Must not know how names
//! are resolved, nor the file system: both sides read and write the text themselves.

pub mod name;
pub mod names;
pub mod wanted;

pub use name::{Name, NameError};
pub use names::{Failing, Failure, Known, Names, Times};

/// Where the daemon writes the names that it wants addresses of. There is no such file while
/// `/etc/mirror.toml` has no names.
pub const WANTED: &str = "/run/traffic-mirror/wanted-names";

/// Where the resolver writes their addresses.
pub const NAMES: &str = "/run/traffic-mirror-resolver/names.toml";
