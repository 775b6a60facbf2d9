//! Route netlink against the real kernel, with `ip` and `tc` as the second opinion. Needs root.

mod events;
mod lab;
mod links;
mod routes;
mod tc;
