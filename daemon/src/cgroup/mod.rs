//! The applications of a filter: patterns over the cgroups of this host, the cgroups that they
//! select now, and the moment when others are to be selected. A packet that leaves has the cgroup
//! in which its socket was made.

mod absence;
mod applications;
mod error;
#[cfg(test)]
mod ground;
mod hierarchy;
mod limits;
mod matcher;
mod pattern;
mod root;
mod state;
mod tree;
mod watch;

pub use absence::{Absence, absence, socket_units};
pub use applications::Applications;
pub use error::CgroupError;
pub use hierarchy::{Cgroup, Tree};
pub use limits::{MAX_CGROUPS, MAX_LEVELS, MAX_WATCHES};
pub use matcher::{Selected, Selection, select, selecting};
pub use pattern::Pattern;
pub use root::find;
pub use state::MatchState;
pub use tree::{read, read_all};
pub use watch::CgroupWatch;
