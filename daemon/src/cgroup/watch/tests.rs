use std::os::fd::AsRawFd as _;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::cgroup::ground::Ground;
use crate::cgroup::matcher::{Selection, select};
use crate::cgroup::tree::read_all;

/// Much longer than any event takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Observed {
    ground: Ground,
    patterns: Vec<Pattern>,
    watch: CgroupWatch,
    told: Receiver<()>,
}

impl Observed {
    fn new(ground: Ground, texts: &[&str]) -> Self {
        let (sender, told) = channel();
        let watch = CgroupWatch::start(&ground.root, move || sender.send(()).is_ok()).unwrap();
        Self {
            ground,
            patterns: patterns(texts),
            watch,
            told,
        }
    }

    fn follow(&mut self) -> Selection {
        let tree = self.watch.follow(&self.patterns);
        assert_eq!(tree.errors, []);
        select(&self.patterns, &tree)
    }

    /// Follows what it is told of until a cgroup is selected, or none at its path.
    fn until(&mut self, path: &str, is_there: bool) -> Selection {
        loop {
            self.told.recv_timeout(PATIENCE).expect("it is told");
            let selection = self.follow();
            if selection.cgroups.iter().any(|one| one.path == path) == is_there {
                return selection;
            }
        }
    }

    fn id(&self, path: &str) -> u64 {
        fs::metadata(self.ground.at(path)).unwrap().ino()
    }

    /// The watches that the kernel holds.
    fn held(&self) -> usize {
        let file = self.watch.shared.inotify.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{file}")).unwrap();
        info.lines()
            .filter(|line| line.starts_with("inotify wd:"))
            .count()
    }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    let glob = |part: &str| glob::Pattern::new(part).unwrap();
    texts
        .iter()
        .map(|text| match text.strip_prefix('/') {
            None => Pattern::unit(glob(text)),
            Some(path) => Pattern::path(path.split('/').map(glob).collect()),
        })
        .collect()
}

#[test]
fn a_unit_that_restarts_is_noticed_with_its_new_id() {
    for ground in Ground::all() {
        ground.make("/system.slice/nginx.service");
        let mut observed = Observed::new(ground, &["nginx.service"]);
        let before = observed.follow();
        assert_eq!(
            before.cgroups[0].id,
            observed.id("/system.slice/nginx.service")
        );
        observed.ground.remove("/system.slice/nginx.service");
        let gone = observed.until("/system.slice/nginx.service", false);
        assert_eq!(gone.cgroups, []);
        observed.ground.make("/system.slice/nginx.service");
        let after = observed.until("/system.slice/nginx.service", true);
        assert_eq!(
            after.cgroups[0].id,
            observed.id("/system.slice/nginx.service")
        );
        assert_ne!(after.cgroups[0].id, before.cgroups[0].id);
        // the root and the slice; not the unit, whose children do not matter
        assert_eq!((observed.watch.watches(), observed.held()), (2, 2));
    }
}

#[test]
fn each_directory_of_a_path_may_come_later() {
    for ground in Ground::all() {
        let mut observed = Observed::new(ground, &["/a/*/c"]);
        assert_eq!(observed.follow().cgroups, []);
        assert_eq!(observed.held(), 1);
        for (made, held) in [("/a", 2), ("/a/x", 3)] {
            observed.ground.make(made);
            observed.told.recv_timeout(PATIENCE).unwrap();
            assert_eq!(observed.follow().cgroups, []);
            assert_eq!(observed.held(), held, "{made}");
        }
        // two levels at once: the second may be made before the first is watched
        observed.ground.make("/a/y/c");
        let selection = observed.until("/a/y/c", true);
        assert_eq!(selection.cgroups[0].id, observed.id("/a/y/c"));
        assert_eq!(observed.held(), 4);
        observed.ground.remove("/a/y/c");
        observed.ground.remove("/a/y");
        observed.until("/a/y/c", false);
        observed.follow();
        assert_eq!(observed.held(), 3);
    }
}

#[test]
fn what_no_pattern_names_tells_nobody() {
    for ground in Ground::all() {
        ground.make("/system.slice");
        let mut observed = Observed::new(ground, &["nginx.service", "/docker/x"]);
        observed.follow();
        for index in 0..500 {
            let path = format!("/system.slice/job-{index}.service");
            observed.ground.make(&path);
            observed.ground.remove(&path);
            fs::write(observed.ground.at("/cgroup.procs"), "").ok();
        }
        observed.ground.make("/docker");
        observed.told.recv_timeout(PATIENCE).unwrap();
        assert!(observed.told.try_recv().is_err());
    }
}

#[test]
fn other_patterns_need_other_watches() {
    let ground = Ground::in_memory();
    ground.make("/a/b");
    ground.make("/c.slice/d.slice");
    let mut observed = Observed::new(ground, &["/a/b/*"]);
    observed.follow();
    assert_eq!(observed.held(), 3);
    observed.patterns = patterns(&["x.service"]);
    observed.follow();
    assert_eq!(observed.held(), 3);
    observed.ground.make("/c.slice/d.slice/x.service");
    observed.until("/c.slice/d.slice/x.service", true);
    observed.patterns.clear();
    observed.follow();
    assert_eq!((observed.watch.watches(), observed.held()), (0, 0));
}

#[test]
fn after_a_storm_of_restarts_the_last_state_holds() {
    for ground in Ground::all() {
        ground.make("/system.slice/a.slice");
        let texts = ["nginx.service", "/system.slice/*/job-*", "end.service"];
        let mut observed = Observed::new(ground, &texts);
        observed.follow();
        let root = observed.ground.root.clone();
        let storm = thread::spawn(move || {
            let below = |path: &str| root.join(path);
            for round in 0..1000 {
                let unit = below("system.slice/nginx.service");
                // slices are watched themselves
                let slice = below("system.slice/b.slice");
                let job = slice.join(format!("job-{round}"));
                fs::create_dir(&unit).unwrap();
                fs::create_dir(&slice).unwrap();
                fs::create_dir(&job).unwrap();
                if round < 999 {
                    fs::remove_dir(&job).unwrap();
                    fs::remove_dir(&slice).unwrap();
                    fs::remove_dir(&unit).unwrap();
                }
            }
            fs::create_dir(below("end.service")).unwrap();
        });
        let last = observed.until("/end.service", true);
        storm.join().unwrap();
        let whole = select(&observed.patterns, &read_all(&observed.ground.root));
        assert_eq!(last, whole);
        assert_eq!(whole.cgroups.len(), 3);
        // the root, three slices and a unit, which "*" fits, too: what the removed ones held is
        // given back
        assert_eq!((observed.watch.watches(), observed.held()), (5, 5));
    }
}

#[test]
fn lost_events_may_have_been_anything() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let mut observed = Observed::new(Ground::in_memory(), &["nginx.service"]);
    observed.follow();
    {
        // the thread waits, and the kernel's queue fills with what concerns nobody
        let shared = Arc::clone(&observed.watch.shared);
        let _held = shared.known();
        for _ in 0..limit / 2 + 1000 {
            observed.ground.make("/other");
            observed.ground.remove("/other");
        }
        observed.ground.make("/nginx.service");
    }
    let selection = observed.until("/nginx.service", true);
    assert_eq!(selection.cgroups[0].id, observed.id("/nginx.service"));
}

#[test]
fn beyond_the_limit_of_watches_all_is_read_and_it_is_said() {
    let ground = Ground::in_memory();
    for index in 0..MAX_WATCHES {
        ground.make(&format!("/{index}"));
    }
    ground.make("/last/unit");
    let mut observed = Observed::new(ground, &["/*/unit"]);
    let tree = observed.watch.follow(&observed.patterns);
    assert!(
        matches!(
            tree.errors[..],
            [CgroupError::TooManyWatches | CgroupError::NoWatch]
        ),
        "{:?}",
        tree.errors
    );
    assert!(observed.watch.is_blind());
    assert!(observed.held() <= MAX_WATCHES);
    let selection = select(&observed.patterns, &tree);
    assert_eq!(selection.cgroups[0].path, "/last/unit");
    // narrower patterns need fewer
    observed.patterns = patterns(&["/last/*"]);
    observed.follow();
    assert!(!observed.watch.is_blind());
    assert_eq!(observed.held(), 2);
}

#[test]
fn its_thread_ends_with_it() {
    let Observed { watch, told, .. } = Observed::new(Ground::in_memory(), &["a.service"]);
    drop(watch);
    // what the thread called has gone with it
    assert!(told.recv_timeout(PATIENCE).is_err());
}
