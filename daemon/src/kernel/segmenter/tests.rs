use super::*;

fn link(index: u32, name: &str, kind: &str, parent: Option<u32>) -> Link {
    Link {
        mtu: BARE_MTU,
        parent,
        info_kind: Some(kind.to_owned()),
        no_arp: true,
        qdisc: "noqueue".to_owned(),
        gso_max: if kind == "macvlan" {
            GSO_MAX
        } else {
            [65_535, 65_536]
        },
        ..Link::ethernet(index, name)
    }
}

fn host(change: impl Fn(&mut Link)) -> (Vec<u32>, Option<Segmenter>) {
    let (ours, other) = (
        Names::new(Path::new("/pins"), 1),
        Names::new(Path::new("/pins"), 2),
    );
    let mut links = [
        link(1, "tm0", "veth", None),
        link(2, "tm12345678-in", "bridge", None),
        link(3, &ours.exit, "veth", None),
        link(4, &ours.end, "veth", None),
        link(5, &ours.entrance, "macvlan", Some(3)),
        link(6, &other.exit, "veth", None),
    ];
    links.iter_mut().for_each(change);
    let mut links = links.into_iter().map(|link| (link.index, link)).collect();
    let found = take_out(&mut links, &ours);
    (links.into_keys().collect(), found.segmenter)
}

#[test]
fn a_segmenter_is_no_interface_of_the_host() {
    assert_eq!(
        host(|_| {}),
        (
            vec![1, 2],
            Some(Segmenter {
                entrance: 5,
                exit: 3
            })
        )
    );
    let end = |path: &str| Names::new(Path::new(path), 1).end;
    assert!(end("/sys/fs/bpf/traffic-mirror").len() < libc::IFNAMSIZ);
    assert_eq!(end("/sys/fs/bpf//mirror/"), end("/sys/fs/bpf/mirror"));
    assert_ne!(end("/sys/fs/bpf/mirror"), end("/sys/fs/bpfmirror"));
}

#[test]
fn a_path_has_one_segmenter_however_it_is_written() {
    let directory = std::env::temp_dir();
    let link = directory.join(format!("traffic-mirror-{}", std::process::id()));
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    let names = [&directory, &link].map(|parent| Names::of(&parent.join("pins")).exit);
    std::fs::remove_file(&link).unwrap();
    assert_eq!(names[0], names[1]);
}

#[test]
fn attempts_are_further_and_further_apart() {
    let mut attempts = Attempts::default();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        attempts.refuse(&"no");
        let looks = (1..).take_while(|_| {
            attempts.look();
            attempts.refused().is_some()
        });
        pauses.push(looks.count() + 1);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    let segmenter = Some(Segmenter {
        entrance: 1,
        exit: 2,
    });
    assert!(!attempts.settle(segmenter));
    attempts.forget();
    attempts.refuse(&"no");
    attempts.look();
    assert_eq!(attempts.refused(), None);
}

#[test]
fn what_is_there_again_is_told_once() {
    let (mut attempts, segmenter) = (
        Attempts::default(),
        Some(Segmenter {
            entrance: 1,
            exit: 2,
        }),
    );
    let made = |attempts: &mut Attempts| {
        attempts.is_new = true;
        attempts.settle(segmenter)
    };
    assert!(!made(&mut attempts), "the first");
    assert!(made(&mut attempts));
    assert!(!attempts.settle(segmenter));
    attempts.refuse(&"no");
    assert!(!attempts.settle(None));
    attempts.forget();
    assert!(made(&mut attempts), "after a refusal");
    assert!(!attempts.settle(None));
    assert!(!made(&mut attempts), "after none was wanted");
}

#[test]
fn what_does_not_work_is_none() {
    let with = |index: u32, change: fn(&mut Link)| {
        host(|link| {
            if link.index == index {
                change(link);
            }
        })
        .1
    };
    assert_eq!(with(5, |link| link.gso_max[0] = 65_535), None);
    assert_eq!(with(5, |link| link.gso_max[1] = 65_536), None);
    assert_eq!(with(5, |link| link.parent = Some(1)), None);
    for part in [3, 4, 5] {
        assert_eq!(with(part, |link| link.up = false), None);
        assert_eq!(with(part, |link| link.mtu = 1500), None);
        assert_eq!(with(part, |link| link.no_arp = false), None);
        assert_eq!(with(part, |link| link.master = Some(9)), None);
        assert_eq!(with(part, |link| link.qdisc = "bfifo".to_owned()), None);
    }
    assert_eq!(with(3, |link| link.name = "eth9".to_owned()), None);
}
