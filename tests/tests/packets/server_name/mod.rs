//! Connections by the name of their server: those of a name that a filter has are mirrored whole,
//! and of others no more than the handshake.

mod connected;
mod flows;
mod made;
mod quic;
mod read;

const PORT: u16 = 443;
