//! Server names in the first datagrams of QUIC flows, as clients seal them.

mod connection;
mod cost;
mod hello;
mod make;
mod random;
mod rejected;
mod table;
