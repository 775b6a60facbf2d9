//! The programs in the kernel against the naive matcher: random files, random frames. `ORACLE_SEED`
//! begins elsewhere, `ORACLE_VERDICTS` sets how many frames there are at least.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use traffic_mirror::desired::{Action, Desired};
use traffic_mirror::network::Network;
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, Count, Explained, MAX_FILTERS, Skipped, Slot, cb};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::testrun::{SkBuff, TestRun};
use traffic_mirror_tests::oracle::flow::flow;
use traffic_mirror_tests::oracle::frame::{Frame, frame};
use traffic_mirror_tests::oracle::kernel::Loaded;
use traffic_mirror_tests::oracle::naive::{Answer, Place, ask, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, hook, large, load, setting};

/// The verdict "next program".
const NEXT: i32 = -1;

/// What came of many frames.
#[derive(Debug, Default)]
struct Tally {
    configurations: u64,
    verdicts: u64,
    matched: u64,
    copies: u64,
    skipped: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            configurations,
            verdicts,
            matched,
            copies,
            skipped,
        } = self;
        write!(
            f,
            "{configurations} configurations, {verdicts} verdicts ({matched} with a match, "
        )?;
        write!(
            f,
            "{copies} copies wanted, {skipped} not to be looked at), 0 wrong"
        )
    }
}

/// A file in the kernel, beside what it means.
struct Subject {
    desired: Desired,
    network: Network,
    places: Vec<Place>,
    /// By place.
    hooks: Vec<usize>,
    loaded: Loaded,
    secret: u64,
    slots: Vec<Slot>,
    /// What the naive matcher has counted.
    matched: Vec<Count>,
    skipped: Vec<[u64; Skipped::COUNT]>,
    no_route: Vec<u64>,
}

impl Subject {
    /// Puts a file into the kernel: into the maps of another one if there are any and it fits.
    fn new(text: &str, random: &mut Random, reuse: Option<Loaded>) -> Result<Self> {
        let (desired, network) = (load(text), configuration::network());
        let compiled = compiled(&desired, &network);
        let places = places(&desired, &network);
        let hooks: BTreeSet<_> = compiled
            .hooks
            .values()
            .map(|hook| (hook.name.as_str(), hook.direction))
            .collect();
        ensure!(
            hooks
                == places
                    .iter()
                    .map(|place| (place.interface.as_str(), place.direction))
                    .collect(),
            "hooks: {places:?} wanted, {:?} compiled",
            compiled.hooks
        );
        let secret = random.bits();
        let loaded = match reuse.filter(|loaded| loaded.fits(&compiled.tables)) {
            None => Loaded::new(&compiled.tables, secret)?,
            Some(mut loaded) => {
                loaded.fill(&compiled.tables, secret)?;
                loaded
            }
        };
        let (matched, skipped, no_route) =
            (loaded.matched()?, loaded.skipped()?, loaded.no_route()?);
        let slots = compiled.tables.slots.to_vec();
        let hooks = places
            .iter()
            .map(|place| hook(compiled.tables.active_bank(), &network, place));
        let hooks = hooks
            .collect::<Option<_>>()
            .context("a hook is not found")?;
        Ok(Self {
            desired,
            network,
            places,
            hooks,
            loaded,
            secret,
            slots,
            matched,
            skipped,
            no_route,
        })
    }

    /// Sends frames through the programs and compares each answer.
    fn examine(&mut self, frames: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        tally.configurations += 1;
        if self.places.is_empty() {
            return Ok(());
        }
        for _ in 0..frames {
            let flow = flow(random, &self.desired);
            let mut frame = frame(random, flow);
            if random.percent(1) {
                (frame.context.cb[0], frame.context.cb[1]) =
                    (self.secret as u32, (self.secret >> 32) as u32);
                // one that comes by a second time is not counted again, and one that must not leave
                // is dropped
                frame.context.cb[cb::ENDPOINT] &= !(cb::PROBE | cb::HEADERLESS);
                frame.flow = Err(Skipped::Copy);
            }
            let place = random.below(self.places.len() as u64) as usize;
            let want = match &frame.flow {
                Ok(flow) => ask(&self.desired, &self.places[place], flow),
                Err(_) => Answer::default(),
            };
            self.compare(place, &frame, &want).with_context(|| {
                format!("{:?}\nwanted {want:?}\n{frame:02x?}", self.places[place])
            })?;
            tally.verdicts += 1;
            tally.matched += u64::from(!want.filters.is_empty());
            tally.copies += u64::from(want.endpoints.count_ones());
            tally.skipped += u64::from(frame.flow.is_err());
        }
        self.compare_counters()
    }

    /// One frame: verdict, bytes, context, endpoints.
    fn compare(&mut self, place: usize, frame: &Frame, want: &Answer) -> Result<()> {
        let (hook, place) = (self.hooks[place], &self.places[place]);
        let ifindex = self
            .network
            .link(&place.interface)
            .context("no interface")?
            .index;
        let run = TestRun {
            context: SkBuff {
                ifindex,
                ..frame.context
            },
            ..TestRun::new(&frame.bytes)
        };
        let outcome = run.run(self.loaded.mirror(place.direction))?;
        ensure!(outcome.verdict == NEXT, "verdict {}", outcome.verdict);
        ensure!(
            outcome.data == frame.bytes,
            "the frame was changed to {:02x?}",
            outcome.data
        );
        let kept = |context: SkBuff| {
            (
                context.mark,
                context.priority,
                context.cb,
                context.gso_size,
                context.gso_segs,
            )
        };
        ensure!(
            kept(outcome.context) == kept(frame.context),
            "the context was changed to {:?}",
            outcome.context
        );
        if frame.flow != Err(Skipped::Copy) {
            let explained = self.loaded.explain(hook, &frame.bytes)?;
            let filters = self.filters(&explained);
            ensure!(
                explained.reason() == frame.flow.as_ref().err().copied(),
                "explained as {:?}",
                explained.reason()
            );
            ensure!(filters == want.filters, "explained by {filters:?}");
        }
        for filter in &want.filters {
            self.matched[*filter].packets += frame.packets;
            self.matched[*filter].bytes += frame.length;
        }
        if let Err(reason) = frame.flow {
            self.skipped[hook][reason as usize] += 1;
        } else if let Some(doubt) = frame.doubt {
            self.skipped[hook][doubt as usize] += 1;
        }
        let before = std::mem::replace(&mut self.no_route, self.loaded.no_route()?);
        for (endpoint, (before, after)) in before.iter().zip(&self.no_route).enumerate() {
            let copies = if want.endpoints >> endpoint & 1 != 0 {
                frame.packets
            } else {
                0
            };
            ensure!(
                after - before == copies,
                "endpoint {endpoint}: {copies} copies wanted, {} made",
                after - before
            );
        }
        Ok(())
    }

    /// The filters whose slots match, ascending.
    fn filters(&self, explained: &Explained) -> Vec<usize> {
        let has = |slot: usize| {
            let filter = &self.desired.filters[self.slots[slot].filter as usize];
            let row = if filter.action == Action::Mirror {
                &explained.matches
            } else {
                &explained.certain
            };
            row.blocks[slot / BLOCK_SLOTS][slot % BLOCK_SLOTS / 64] >> (slot % 64) & 1
        };
        let slots = self
            .slots
            .iter()
            .enumerate()
            .filter(|(slot, _)| has(*slot) != 0);
        let filters: BTreeSet<usize> = slots.map(|(_, slot)| slot.filter as usize).collect();
        filters.into_iter().collect()
    }

    fn compare_counters(&self) -> Result<()> {
        for (hook, (want, got)) in self.skipped.iter().zip(self.loaded.skipped()?).enumerate() {
            ensure!(
                *want == got,
                "hook {hook}, packets not looked at: {want:?} wanted, {got:?} counted"
            );
        }
        for ((filter, want), got) in self
            .desired
            .filters
            .iter()
            .zip(&self.matched)
            .zip(self.loaded.matched()?)
        {
            ensure!(
                *want == got,
                "{}: {want:?} wanted, {got:?} counted for {filter:?}",
                filter.name
            );
        }
        Ok(())
    }
}

/// A namespace with interfaces of the indices that files are compiled for: a test run has its frame
/// come by one.
fn namespace() -> Result<Netns> {
    let netns = Netns::new("oracle")?;
    for index in configuration::network().links.keys() {
        netns.run(&format!(
            "ip link add n{index} index {index} type veth peer name p{index}"
        ))?;
    }
    Ok(netns)
}

/// Examines a file, in the maps that are left from another one if it fits there, and leaves them to
/// the next. A failure tells how to see it again.
fn examine(
    seed: u64,
    frames: u64,
    tally: &mut Tally,
    maps: &mut Option<Loaded>,
    text: impl FnOnce(&mut Random) -> String,
) {
    let mut random = Random::new(seed);
    let text = text(&mut random);
    let reused = if maps.is_some() {
        "; it was written over other files"
    } else {
        ""
    };
    let mut examined = || -> Result<Loaded> {
        let mut file = Subject::new(&text, &mut random, maps.take())?;
        file.examine(frames, &mut random, tally)?;
        Ok(file.loaded)
    };
    match examined() {
        Ok(loaded) => *maps = Some(loaded),
        Err(error) => {
            const SHOWN_BYTES: usize = 20_000;
            let shown = if text.len() <= SHOWN_BYTES {
                text.as_str()
            } else {
                "(too long to show)"
            };
            panic!("{error:?}\n\nthe file:\n{shown}\nORACLE_SEED={seed} begins with it{reused}");
        }
    }
}

#[test]
fn the_kernel_does_what_random_files_mean() -> Result<()> {
    const FRAMES: u64 = 250;
    const SIZES: [usize; 8] = [0, 1, 2, 3, 10, 30, 100, 1000];
    let seed = setting("ORACLE_SEED", 1);
    let verdicts = setting("ORACLE_VERDICTS", 200_000);
    let begin = Instant::now();
    let (mut tally, mut maps) = (Tally::default(), None);
    namespace()?.enter(|| {
        for seed in seed.. {
            if tally.verdicts >= verdicts {
                break;
            }
            // the file's size follows from its seed, so that a failure is seen again from there
            let mut random = Random::new(!seed);
            let filters = *random.pick(&SIZES);
            if random.percent(3) {
                maps = None;
            }
            examine(seed, FRAMES, &mut tally, &mut maps, |random| {
                configuration::random(random, filters)
            });
        }
        Ok(())
    })?;
    println!(
        "oracle: seed {seed}, {tally}, {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    let matched = tally.matched * 100 / tally.verdicts.max(1);
    assert!(
        (25..75).contains(&matched),
        "{matched} % of the packets match something: not much of a test"
    );
    Ok(())
}

#[test]
fn the_tables_hold_up_to_their_limit() -> Result<()> {
    type Family = (&'static str, fn(&mut Random, usize) -> String);
    const FAMILIES: [Family; 5] = [
        ("mixed", large::mixed),
        ("bidirectional", large::bidirectional),
        ("nested prefixes", large::nested),
        ("ports", large::ports),
        ("IPv6 hosts", large::hosts),
    ];
    let seed = setting("ORACLE_SEED", 1);
    namespace()?.enter(|| {
        for (name, family) in FAMILIES {
            for filters in [1, 100, MAX_FILTERS] {
                let begin = Instant::now();
                let mut tally = Tally::default();
                examine(seed, 3000, &mut tally, &mut None, |random| {
                    family(random, filters)
                });
                println!(
                    "{filters} {name}: {tally}, {:.1} s",
                    begin.elapsed().as_secs_f64()
                );
            }
        }
        Ok(())
    })
}
