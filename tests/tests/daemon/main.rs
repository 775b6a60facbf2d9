//! The daemon as its operator knows it: commands, exit codes, signals, the file, interfaces that
//! come and go, a crash, what it leaves behind. The real binary in namespaces, real packets; needs
//! root.

mod adopt;
mod alive;
mod bounds;
mod check;
mod churn;
mod clsact;
mod command;
mod crash;
mod drift;
mod explain;
mod file;
mod interfaces;
mod life;
mod listed;
mod load;
mod log;
mod many;
mod metrics;
mod order;
mod pins;
mod plan;
mod report;
mod rights;
mod segmenter;
mod shells;
mod site;
mod status;
mod strangers;
mod strays;
mod system;
mod tamper;
mod version;
mod wait;
mod xdp;
