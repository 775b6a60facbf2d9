//! The daemon behind `traffic-mirror`: text -> Config -> Desired -> Tables -> Plan -> apply ->
//! Report.

pub mod about;
pub mod attached;
pub mod cgroup;
pub mod chain;
pub mod compile;
pub mod config;
pub mod daemon;
pub mod debounce;
pub mod desired;
pub mod diagnostic;
pub mod dns;
pub mod health;
pub mod initials;
pub mod ipsec;
pub mod journal;
pub mod kernel;
pub mod log;
pub mod metrics;
pub mod network;
pub mod obstacle;
pub mod plan;
pub mod preview;
pub mod printable;
pub mod pulse;
pub mod quic;
pub mod reconcile;
pub mod reconciled;
pub mod report;
pub mod source;
pub mod status;
pub mod step_budget;
pub mod tables;
pub mod triggers;
pub mod verdict;
