//! Packets by the application that sends or receives them: those of a cgroup that a filter has are
//! mirrored both ways, and of others no more than the first one.

mod laboratory;
mod life;
mod local;
mod named;
mod patterns;
