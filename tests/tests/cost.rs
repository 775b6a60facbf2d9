//! What is the same on each machine of what a file costs: bytes of its tables, elements that an
//! edit writes, and the length of the programs. Times are for `make bench`.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use traffic_mirror::kernel::Generation;
use traffic_mirror::network::Direction;
use traffic_mirror::plan::Plan;
use traffic_mirror::tables::{Table, Tables};
use traffic_mirror_tests::lab::testrun::translated;
use traffic_mirror_tests::oracle::kernel::{PinPath, tables_with_learned_fields};
use traffic_mirror_tests::oracle::maps::Maps;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, large, load};

type File = fn(&mut Random, usize) -> String;

/// Bytes of all tables of a new file.
fn bytes(file: File, filters: usize) -> usize {
    let desired = load(&file(&mut Random::new(1), filters));
    let tables = compiled(&desired, &configuration::network()).tables;
    Table::ALL
        .iter()
        .flat_map(|&table| tables.pieces(table))
        .map(|(_, piece)| piece.len())
        .sum()
}

/// The kinds of files that operators have. What files take that somebody thinks out to be the worst
/// has a test of its own.
#[test]
fn the_tables_of_usual_files_take_no_more() {
    const KIB: usize = 1 << 10;
    let files: [(&str, File, usize, usize); 8] = [
        ("mixed", large::mixed, 100, 960),
        ("mixed", large::mixed, 10_000, 12_000),
        ("hosts and ports", large::hosts_and_ports, 100, 800),
        ("hosts and ports", large::hosts_and_ports, 10_000, 13_500),
        ("typical", large::typical, 10_000, 12_500),
        ("lists", large::lists, 1_000, 31_500),
        ("wide ranges", large::wide_ranges, 4_000, 3_800),
        ("worst ranges", large::worst_ranges, 10_000, 15_500),
    ];
    let mut over = Vec::new();
    for (name, file, filters, most) in files {
        let kib = bytes(file, filters).div_ceil(KIB);
        println!("{name}, {filters} filters: {kib} KiB of {most}");
        if kib > most {
            over.push(format!(
                "{name}, {filters} filters: {kib} KiB, more than {most}"
            ));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// Elements that one filter writes that is added, changed, disabled, enabled and removed, whatever
/// the others are.
#[test]
fn an_edit_of_one_filter_writes_few_elements() {
    const OTHERS: usize = 500;
    let kinds: [(&str, File); 4] = [
        ("mixed", large::mixed),
        ("hosts and ports", large::hosts_and_ports),
        ("typical", large::typical),
        ("wide ranges", large::wide_ranges),
    ];
    let network = configuration::network();
    let one = |port: u16, to: &str, rest: &str| {
        format!(
            "[[filter]]\nname = \"one\"\nprotocol = [\"tcp\"]\nsource = [\"10.7.7.7\"]\ndestination_port = [{port}]\n\
             to = [\"{to}\"]\n{rest}"
        )
    };
    let edits = [
        ("added", one(443, "ids", ""), 16),
        ("to another endpoint", one(443, "log", ""), 3),
        ("another port", one(444, "log", ""), 28),
        ("disabled", one(444, "log", "enabled = false\n"), 18),
        ("enabled", one(444, "log", ""), 17),
        ("removed", String::new(), 19),
    ];
    let mut over = Vec::new();
    for (name, file) in kinds {
        let others = file(&mut Random::new(1), OTHERS);
        let mut maps = Maps::new(OTHERS);
        maps.reload(&load(&others), &network);
        for (edit, text, most) in &edits {
            let plans = maps.reload(&load(&format!("{others}{text}")), &network);
            let elements: usize = plans.iter().map(Plan::elements).sum();
            println!("{name}, {edit}: {elements} elements of {most}");
            if !(1..=*most).contains(&elements) {
                over.push(format!(
                    "{name}, {edit}: {elements} elements, not 1 to {most}"
                ));
            }
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// Instructions that the kernel has made of each program: the more there are, the more lines of the
/// cache a packet drives out.
#[test]
fn the_programs_are_no_longer() -> Result<()> {
    let pins = PinPath::new()?;
    // most files have neither server names nor applications
    let mut few = Generation::create(pins.path(), 1, &Tables::empty())?;
    few.load_programs()?;
    few.publish(pins.path())?;
    let all = Generation::create(pins.path(), 2, &tables_with_learned_fields())?;
    all.load_programs()?;
    let mirror = |generation: &Generation| generation.mirror(Direction::Egress);
    let programs = [
        ("mirror_egress", mirror(&few)?, 12_000, 53_000),
        (
            "mirror_egress with all fields",
            mirror(&all)?,
            21_500,
            96_000,
        ),
        ("encap", all.encap()?, 2_300, 12_500),
        ("segmenter", all.segmenter()?, 3_100, 16_000),
    ];
    let mut over = Vec::new();
    for (name, program, most, most_bytes) in &programs {
        let instructions = translated(program.fd()?.as_fd())?.len();
        let jited = program.info().context("ask for the program")?.size_jitted();
        println!(
            "{name}: {instructions} instructions of {most}, {jited} bytes of machine code of {most_bytes}"
        );
        if instructions > *most || cfg!(target_arch = "x86_64") && jited > *most_bytes {
            over.push(format!(
                "{name}: {instructions} instructions of {most}, {jited} bytes of {most_bytes}"
            ));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
    Ok(())
}
