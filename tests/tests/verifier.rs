//! The kernel's verifier and its JIT compiler accept the programs, at a cost that is printed and
//! bounded.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use aya::programs::SchedClassifier;
use traffic_mirror::kernel::{Attachment, Generation, Role};
use traffic_mirror::network::{Direction, LinkKind};
use traffic_mirror::tables::Tables;
use traffic_mirror_ebpf::abi::cb;
use traffic_mirror_ebpf::offsets::Offsets;
use traffic_mirror_tests::lab::kernel;
use traffic_mirror_tests::lab::packet::eth;
use traffic_mirror_tests::lab::testrun::{SkBuff, TestRun, translated};
use traffic_mirror_tests::oracle::kernel::{PinPath, tables_with_learned_fields};

#[test]
fn the_programs_load_within_their_budget() -> Result<()> {
    let enabled = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
        .context("read bpf_jit_enable")?;
    assert_ne!(
        enabled.trim(),
        "0",
        "the JIT is off: set net.core.bpf_jit_enable to 1"
    );
    let pins = PinPath::new()?;
    // most files have neither server names nor applications
    for (number, tables, budget) in [
        (1, Tables::empty(), 80_000),
        (2, tables_with_learned_fields(), 130_000),
    ] {
        let mut generation = Generation::create(pins.path(), number, &tables)?;
        generation.load_programs()?;
        for (direction, name) in [
            (Direction::Ingress, "mirror_ingress"),
            (Direction::Egress, "mirror_egress"),
        ] {
            judge(&generation.mirror(direction)?, name, budget)?;
        }
        generation.publish(pins.path())?;
    }
    let generation = Generation::open(pins.path(), 2);
    judge(&generation.encap()?, "encap", 32_000)?;
    judge(&generation.segmenter()?, "segmenter", 60_000)?;
    for (name, kind) in [
        ("icmp_errors", LinkKind::Ethernet),
        ("icmp_errors_ip", LinkKind::Other(0)),
    ] {
        let role = Role::Errors { generation: 1 };
        let attachment = Attachment {
            role,
            interface: 1,
            direction: Direction::Ingress,
        };
        judge(&generation.program_of(attachment, kind)?, name, 8_000)?;
    }
    judge(
        generation
            .quic_name()?
            .classifier()
            .map_err(anyhow::Error::msg)?,
        "quic_name",
        20_000,
    )?;
    judge(
        generation
            .explain()?
            .classifier()
            .map_err(anyhow::Error::msg)?,
        "explain",
        72_000,
    )
}

/// Whether and how programs may read the kernel's memory differs from kernel to kernel.
#[test]
fn the_programs_load_however_the_kernels_memory_is_read() -> Result<()> {
    for reading in [0, Offsets::BY_HELPER, Offsets::BY_TYPE] {
        let pins = PinPath::new()?;
        let generation =
            Generation::create(pins.path(), 1, &tables_with_learned_fields())?.reading(reading);
        match generation.load_programs() {
            Err(error) if reading == Offsets::BY_TYPE && kernel()? < (6, 2) => {
                println!("skipped, takes 6.2: {error}")
            }
            loaded => loaded.with_context(|| format!("reading {reading}"))?,
        }
    }
    Ok(())
}

/// Somebody has cleared the map that holds the secret: what a packet happens to have in `skb->cb`
/// does not make it a copy.
#[test]
fn without_a_secret_each_packet_goes_on() -> Result<()> {
    const TCX_NEXT: i32 = -1;
    let pins = PinPath::new()?;
    let generation = Generation::create(pins.path(), 1, &Tables::empty())?;
    generation.load_programs()?;
    let frame = eth().ip("10.0.0.1", "10.0.0.2").udp(1, 2).build();
    let context = SkBuff {
        cb: [0, 0, cb::HEADERLESS, 0, 0],
        ..SkBuff::default()
    };
    for hook in [Direction::Ingress, Direction::Egress] {
        let outcome = TestRun {
            context,
            ..TestRun::new(&frame)
        }
        .run(&generation.mirror(hook)?)?;
        assert_eq!(
            (outcome.verdict, outcome.data),
            (TCX_NEXT, frame.clone()),
            "{hook:?}"
        );
    }
    Ok(())
}

/// `budget` is how many instructions the verifier may look at. It gives up at 1,000,000; far below
/// that loading stays a matter of milliseconds, and older kernels, which see less that is equal,
/// have room.
fn judge(program: &SchedClassifier, name: &str, budget: u32) -> Result<()> {
    let info = program.info()?;
    assert_eq!(info.name_as_str(), Some(name));
    let verified = info
        .verified_instruction_count()
        .context("the kernel tells no count before 5.16")?;
    let instructions = translated(program.fd()?.as_fd())?;
    let jited = info.size_jitted();
    println!(
        "{name}: {verified} instructions verified, {} long, {jited} bytes of machine code",
        instructions.len()
    );
    assert!(jited > 0, "{name} is not compiled to machine code");
    assert!(
        verified <= budget,
        "{name}: {verified} instructions verified, more than {budget}"
    );
    // `bpf_unclone_prologue` begins so: it would have the program drop originals that are clones
    // when memory is short
    const LOAD_BYTE_OF_CONTEXT: [u8; 2] = [0x71, 0x16];
    let begin = instructions.first().context("no instructions")?;
    assert_ne!(
        begin[..2],
        LOAD_BYTE_OF_CONTEXT,
        "{name} writes into packets directly: {:02x?}",
        &instructions[..9]
    );
    Ok(())
}
