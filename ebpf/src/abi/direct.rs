//! Maps of one element whose address is in the programs' code.

/// What stands in the object in place of the address of the element of `CONTROL`, until the daemon
/// puts the map there.
pub const CONTROL_ADDRESS: u64 = 0x5d3c_91a6_4f0e_b201;
/// The same for `VALUES`.
pub const VALUES_ADDRESS: u64 = 0x5d3c_91a6_4f0e_b202;
/// The same for `STEPS`.
pub const STEPS_ADDRESS: u64 = 0x5d3c_91a6_4f0e_b203;

/// By the names of the maps.
pub const DIRECT: [(&str, u64); 3] = [
    ("CONTROL", CONTROL_ADDRESS),
    ("VALUES", VALUES_ADDRESS),
    ("STEPS", STEPS_ADDRESS),
];
