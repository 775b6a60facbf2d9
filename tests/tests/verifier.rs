//! The kernel's verifier and its JIT compiler accept the programs, at a cost that is printed and bounded.

use anyhow::{Context as _, Result};
use traffic_mirror::kernel::Generation;
use traffic_mirror::network::Hook;
use traffic_mirror::tables::Tables;
use traffic_mirror_tests::oracle::kernel::PinPath;

/// Most instructions that the verifier may look at for a program. It gives up at 1,000,000; far below that loading
/// stays a matter of milliseconds, and older kernels, which see less that is equal, have room.
const BUDGET: [(&str, u32); 4] =
    [("mirror_ingress", 80_000), ("mirror_egress", 80_000), ("encap", 12_000), ("explain", 40_000)];

#[test]
fn the_programs_load_within_their_budget() -> Result<()> {
    let enabled = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").context("read bpf_jit_enable")?;
    assert_ne!(enabled.trim(), "0", "the JIT is off: set net.core.bpf_jit_enable to 1");
    let pins = PinPath::new()?;
    let generation = Generation::create(pins.path(), 1, &Tables::empty())?;
    generation.load_programs()?;
    for (name, budget) in BUDGET {
        let info = match name {
            "mirror_ingress" => generation.mirror(Hook::Ingress)?.info()?,
            "mirror_egress" => generation.mirror(Hook::Egress)?.info()?,
            "encap" => generation.encap()?.info()?,
            _ => generation.explain()?.classifier().map_err(anyhow::Error::msg)?.info()?,
        };
        assert_eq!(info.name_as_str(), Some(name));
        let verified = info.verified_instruction_count().context("the kernel tells no count before 5.16")?;
        let (translated, jited) = (info.size_translated().unwrap_or_default(), info.size_jitted());
        println!("{name}: {verified} instructions verified, {} long, {jited} bytes of machine code", translated / 8);
        assert!(jited > 0, "{name} is not compiled to machine code");
        assert!(verified <= budget, "{name}: {verified} instructions verified, more than {budget}");
    }
    Ok(())
}
