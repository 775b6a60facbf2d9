use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::cgroup::ground::Ground;
use crate::cgroup::matcher::{select, selecting};
use crate::cgroup::root;

const PATHS: [&str; 5] = [
    "/init.scope",
    "/system.slice/nginx.service/workers",
    "/system.slice/system-pg.slice/pg@1.service",
    "/user.slice/user-7.slice/user@7.service/app.slice/nginx.service",
    "/docker/0123",
];

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    let glob = |part: &str| glob::Pattern::new(part).unwrap();
    texts
        .iter()
        .map(|text| match text.strip_prefix('/') {
            None => Pattern::unit(glob(text)),
            Some("") => Pattern::path(Vec::new()),
            Some(path) => Pattern::path(path.split('/').map(glob).collect()),
        })
        .collect()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn each_cgroup_has_its_id_and_level() {
    for ground in Ground::all() {
        PATHS.iter().for_each(|path| ground.make(path));
        if !ground.is_real {
            fs::write(ground.at("/system.slice/cgroup.procs"), "").unwrap();
            symlink("/system.slice", ground.at("/link")).unwrap();
        }
        let tree = read_all(&ground.root);
        assert_eq!(tree.errors, []);
        let mut expected = BTreeSet::from(["/".to_owned()]);
        for path in PATHS {
            let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
            expected.extend(ends.chain([path.len()]).map(|end| path[..end].to_owned()));
        }
        let found: BTreeSet<String> = tree.cgroups.iter().map(|one| one.path.clone()).collect();
        assert_eq!(found, expected);
        assert_eq!(tree.cgroups.len(), found.len());
        for cgroup in &tree.cgroups {
            assert_eq!(
                cgroup.id,
                inode(&ground.at(&cgroup.path)),
                "{}",
                cgroup.path
            );
            let depth = cgroup.path.split('/').filter(|name| !name.is_empty());
            assert_eq!(usize::from(cgroup.level), depth.count());
        }
        let levels: Vec<u16> = tree.cgroups.iter().map(|one| one.level).collect();
        assert!(levels.is_sorted());
    }
}

#[test]
fn only_what_patterns_need_is_read() {
    let ground = Ground::in_memory();
    PATHS.iter().for_each(|path| ground.make(path));
    let visited = |texts: &[&str]| {
        let mut visited = Vec::new();
        let tree = walk(&ground.root, Some(&patterns(texts)), |visit| {
            let below = visit.directory.strip_prefix(&ground.root).unwrap();
            visited.push(format!("/{}", below.display()));
            Ok(())
        });
        assert_eq!(tree.errors, []);
        visited
    };
    assert_eq!(visited(&["/docker/0123"]), ["/", "/docker"]);
    assert_eq!(visited(&["/absent/0123"]), ["/"]);
    assert_eq!(visited(&["/*", "/system.slice"]), ["/"]);
    assert_eq!(
        visited(&["system.slice"]),
        ["/", "/user.slice", "/user.slice/user-7.slice"]
    );
    assert_eq!(
        visited(&["nginx.service"]),
        [
            "/",
            "/system.slice",
            "/user.slice",
            "/system.slice/system-pg.slice",
            "/user.slice/user-7.slice"
        ]
    );
    assert_eq!(visited(&["/"]), [""; 0]);
}

#[test]
fn what_is_left_out_would_not_be_selected() {
    let ground = Ground::in_memory();
    PATHS.iter().for_each(|path| ground.make(path));
    let lists: [&[&str]; 6] = [
        &["nginx.service", "pg@*.service"],
        &["/*/*/*/app.slice", "*.slice", "/docker"],
        &["/"],
        &["/system.slice/nginx.service/workers", "*@*.service"],
        &["absent.service"],
        &[],
    ];
    for texts in lists {
        let patterns = patterns(texts);
        let needed = select(&patterns, &read(&ground.root, &patterns));
        let whole = select(&patterns, &read_all(&ground.root));
        assert_eq!(needed, whole, "{texts:?}");
    }
}

#[test]
fn a_hierarchy_that_is_not_there_is_an_error_and_a_cgroup_that_goes_is_none() {
    let missing = read(Path::new("/no/such/cgroup"), &patterns(&["nginx.service"]));
    assert_eq!(missing.cgroups, []);
    assert!(
        missing.errors[0]
            .to_string()
            .starts_with("cannot read /no/such/cgroup: "),
        "{:?}",
        missing.errors
    );
    for ground in Ground::all() {
        ground.make("/a.slice/b.slice");
        let tree = walk(&ground.root, Some(&patterns(&["x.service"])), |visit| {
            if visit.directory.ends_with("b.slice") {
                ground.remove("/a.slice/b.slice");
            }
            Ok(())
        });
        assert_eq!(tree.errors, []);
        assert_eq!(tree.cgroups.len(), 3);
    }
}

#[test]
fn beyond_the_limit_the_deepest_are_left_out() {
    let ground = Ground::in_memory();
    ground.make("/z/last");
    for index in 0..MAX_CGROUPS {
        fs::create_dir(ground.at(&format!("/z/last/{index}"))).unwrap();
    }
    let tree = read(&ground.root, &patterns(&["/*/*/*", "/z/last"]));
    assert_eq!(tree.errors, [CgroupError::TooMany]);
    assert_eq!(tree.cgroups.len(), MAX_CGROUPS);
    let narrow = read(&ground.root, &patterns(&["/z/last", "/z/last/17"]));
    assert_eq!((narrow.cgroups.len(), narrow.errors), (4, Vec::new()));
}

/// The id in a file handle of a directory: that of its `kernfs_node` (`kernfs_encode_fh`).
fn handle_id(path: &Path) -> u64 {
    #[repr(C)]
    struct Handle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        handle: [u8; 128],
    }
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        handle: [0; 128],
    };
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut mount = 0;
    // SAFETY: the path ends with 0, and the handle has the room that it says; both live through
    // the call.
    let done = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            0,
        )
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    assert_eq!(handle.bytes, 8);
    u64::from_ne_bytes(handle.handle[..8].try_into().unwrap())
}

/// A process that ends with its owner.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ids_are_those_of_the_kernel_and_never_come_back() {
    let Some(ground) = Ground::of_cgroups() else {
        return;
    };
    let mut earlier = BTreeSet::new();
    for _ in 0..100 {
        ground.make("/nginx.service");
        let tree = read(&ground.root, &patterns(&["nginx.service"]));
        let unit = tree.cgroups.last().unwrap();
        assert_eq!(unit.id, handle_id(&ground.at(&unit.path)));
        assert!(earlier.insert(unit.id), "{} again", unit.id);
        ground.remove("/nginx.service");
    }
}

#[test]
fn a_process_is_in_the_cgroup_that_is_read() {
    let Some(ground) = Ground::of_cgroups() else {
        return;
    };
    ground.make("/a.slice/nginx.service/workers");
    let sleep = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn();
    let sleeper = Sleeper(sleep.unwrap());
    let pid = sleeper.0.id().to_string();
    fs::write(
        ground.at("/a.slice/nginx.service/workers/cgroup.procs"),
        &pid,
    )
    .unwrap();
    let shown = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = shown.lines().find_map(|line| line.strip_prefix("0::"));
    let name = ground.root.file_name().unwrap().to_str().unwrap();
    // the hierarchy of the host, in which the directory of the test is no slice
    let texts = [
        format!("/{name}/a.slice/*"),
        format!("/{name}"),
        "nginx.service".to_owned(),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let patterns = patterns(&texts);
    assert_eq!(selecting(&patterns, path.unwrap()), [0, 1]);
    let host = root::find().unwrap();
    let selection = select(&patterns, &read(&host, &patterns));
    let found: Vec<(u64, u16)> = selection
        .cgroups
        .iter()
        .map(|one| (one.id, one.level))
        .collect();
    let id = |path: &str| inode(&ground.at(path));
    assert_eq!(found, [(id("/"), 1), (id("/a.slice/nginx.service"), 3)]);
}
