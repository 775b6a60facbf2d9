//! Reloads on tables in memory.

mod model;
mod writes;
