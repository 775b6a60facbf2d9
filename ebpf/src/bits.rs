//! Arithmetic on words that every program needs.

/// Number of the lowest bit that is set, below 64; `bits` must not be 0. BPF has no instruction for
/// it: a de Bruijn sequence and a table (Leiserson, Prokop and Randall, 1998).
#[inline(always)]
#[must_use]
pub fn lowest_bit(bits: u64) -> u32 {
    const SEQUENCE: u64 = 0x03f7_9d71_b4cb_0a89;
    // With the plain positions the compiler sees what the table computes and drops the bound that
    // the verifier needs.
    const OFFSET: u8 = 64;
    static POSITION: [u8; 64] = {
        let mut table = [0; 64];
        let mut i = 0;
        while i < 64 {
            table[((SEQUENCE << i) >> 58) as usize] = OFFSET | i as u8;
            i += 1;
        }
        table
    };
    let index = bits.isolate_lowest_one().wrapping_mul(SEQUENCE) >> 58;
    u32::from(POSITION[index as usize]) & 63
}

/// Spreads every bit over all (splitmix64).
#[must_use]
#[inline(always)]
pub const fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
