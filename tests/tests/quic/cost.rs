//! What an Initial costs: `cargo test --profile tests --test quic -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use traffic_mirror::quic::{Flow, Table};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{DATAGRAM_BYTES, Hello, crypto};

use crate::make::{client, named, post_quantum};

const ROUNDS: usize = 2000;
/// More than the caches of a processor hold.
const CACHE_BYTES: usize = 64 << 20;

/// Median, µs, of what takes as long as a call; before each the caches are overwritten if `is_cold`.
fn median(is_cold: bool, rounds: usize, mut call: impl FnMut(usize)) -> f64 {
    let mut memory = vec![0_u8; if is_cold { CACHE_BYTES } else { 0 }];
    let mut times: Vec<Duration> = (0..rounds)
        .map(|round| {
            memory.iter_mut().step_by(64).for_each(|byte| *byte ^= 1);
            black_box(&memory);
            let began = Instant::now();
            call(round);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2].as_secs_f64() * 1e6
}

#[test]
#[ignore = "measures, and asserts nothing about time"]
fn an_initial() {
    let mut random = Random::new(1);
    let hellos: Vec<Vec<u8>> = (0..ROUNDS)
        .map(|_| {
            let message = Hello::of("cart.shop.example.com").message(&mut random);
            client(&mut random).datagram(&crypto(0, &message))
        })
        .collect();
    let halves: Vec<[Vec<u8>; 2]> = (0..ROUNDS)
        .map(|_| {
            let message = post_quantum(&mut random);
            let mut client = client(&mut random);
            let halves = [
                client.datagram(&crypto(0, &message[..900])),
                client.datagram(&crypto(900, &message[900..])),
            ];
            assert!(halves.iter().all(|half| half.len() == DATAGRAM_BYTES));
            halves
        })
        .collect();
    let mut damaged = hellos.clone();
    damaged
        .iter_mut()
        .for_each(|datagram| datagram[DATAGRAM_BYTES - 1] ^= 1);
    for (is_cold, rounds) in [(false, ROUNDS), (true, 200)] {
        let temperature = if is_cold { "cold" } else { "warm" };
        let whole = median(is_cold, rounds, |round| {
            assert_eq!(
                Flow::default().datagram(&hellos[round]),
                named("cart.shop.example.com")
            );
        });
        println!("{temperature}: a hello in one Initial, keys derived: {whole:.2} us");
        let mut table = Table::new(ROUNDS, Duration::from_secs(9));
        for (half, label) in ["first", "second"].into_iter().enumerate() {
            let time = median(is_cold, rounds, |round| {
                black_box(table.datagram(round as u64, Duration::ZERO, &halves[round][half]));
            });
            println!("{temperature}: the {label} half of a hello, in a table: {time:.2} us");
        }
        let damaged = median(is_cold, rounds, |round| {
            black_box(Flow::default().datagram(&damaged[round]));
        });
        println!("{temperature}: an Initial with a wrong tag: {damaged:.2} us");
    }
}
