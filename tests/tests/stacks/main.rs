//! Real clients and a real server: what a filter with server names mirrors of a thousand
//! connections of curl and OpenSSL to nginx.

mod host;
mod streams;
mod web;

mod flood;
mod many;
mod variants;
