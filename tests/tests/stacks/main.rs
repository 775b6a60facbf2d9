//! Real clients and a real server: what a filter with server names mirrors of a thousand
//! connections of curl, OpenSSL and rustls to nginx, and of a hundred of QUIC.

mod host;
mod identity;
mod peer;
mod streams;
mod web;

mod flood;
mod many;
mod quic;
mod rust_tls;
mod variants;
