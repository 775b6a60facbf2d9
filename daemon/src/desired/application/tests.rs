use super::*;

fn right(text: &str) -> String {
    let parsed = application(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"));
    parsed.as_str().to_owned()
}

fn wrong(text: &str) -> Problem {
    application(text).expect_err(text)
}

#[test]
fn units_and_paths() {
    for text in [
        "nginx.service",
        "user@1000.service",
        "system.slice",
        "a-b.slice",
        "session-3.scope",
        "postgresql@*.service",
        "*.service",
        "docker-*.scope",
        r"system-serial\x2dgetty.slice",
        "[!n]*.service",
        "sshd.socket",
        "/",
        "/*",
        "/docker/9f86d081884c",
        "/a.slice/a-b.slice/x.service",
        "/*/a-b.slice",
        "/kubepods.slice/*/*/cri-containerd-*.scope",
        "/lxc.payload.web",
    ] {
        assert_eq!(right(text), text);
    }
    assert_eq!(right("system.slice/*"), "/system.slice/*");
}

#[test]
fn what_to_write_is_known() {
    for (text, fix) in [
        // names of programs
        ("nginx", "nginx.service"),
        ("nginx*", "nginx*.service"),
        ("php8.2-fpm", "php8.2-fpm.service"),
        ("dockerd", "docker.service"),
        // paths as tools show them
        (
            "/sys/fs/cgroup/system.slice/nginx.service",
            "/system.slice/nginx.service",
        ),
        (
            "/sys/fs/cgroup/unified/system.slice/a.service/cgroup.procs",
            "/system.slice/a.service",
        ),
        ("/sys/fs/cgroup", "/"),
        (
            "0::/system.slice/nginx.service",
            "/system.slice/nginx.service",
        ),
        ("system.slice/", "/system.slice"),
        ("//system.slice//a.service", "/system.slice/a.service"),
        // all below is meant anyway
        ("/system.slice/**", "/system.slice"),
        ("nginx**.service", "nginx*.service"),
        ("/a/x**", "/a/x*"),
        // slices are nested
        ("/a-b.slice/x.service", "/a.slice/a-b.slice/x.service"),
        ("/a.slice/a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("-.slice", "/"),
        // units that run nothing, and templates
        ("backup.timer", "backup.service"),
        ("spool.path", "spool.service"),
        ("srv.automount", "srv.mount"),
        ("postgresql@.service", "postgresql@*.service"),
        ("postgresql@", "postgresql@*.service"),
        ("getty@%i.service", "getty@*.service"),
        // spelling
        (" nginx.service", "nginx.service"),
        ("nginx.servcie", "nginx.service"),
        ("nginx.Service", "nginx.service"),
        ("größe.service", r"gr\xc3\xb6\xc3\x9fe.service"),
        // users, sessions, containers, pods
        ("uid:1000", "user-1000.slice"),
        ("root", "user-0.slice"),
        ("user-1000", "user-1000.slice"),
        ("user@1000", "user@1000.service"),
        ("session-3", "session-3.scope"),
        ("kubepods", "kubepods.slice"),
        ("docker-*", "docker-*.scope"),
        ("9f86d081884c", "*-9f86d081884c*.scope"),
        (
            "containerd://9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "cri-containerd-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.scope",
        ),
        (
            "2b7d4a1e-6c1f-4a52-9d0b-0c8a5e7f1d23",
            "*-pod2b7d4a1e_6c1f_4a52_9d0b_0c8a5e7f1d23.slice",
        ),
    ] {
        let problem = wrong(text);
        assert_eq!(problem.help, Remedy::write_string(fix), "{text}");
        // proposals are right, and stay as they are
        assert_eq!(right(fix), fix, "{text}");
    }
}

#[test]
fn several_in_one_string_are_taken_apart() {
    for text in [
        "nginx.service,exim4.service",
        "nginx.service, exim4.service",
        "nginx exim4",
        "nginx;exim4",
    ] {
        let help = wrong(text).help.to_string();
        assert_eq!(help, "write \"nginx.service\", \"exim4.service\"", "{text}");
    }
    assert_eq!(wrong("nginx or php").note.as_deref(), Some(NOTE));
    assert_eq!(
        wrong("my app.service").help,
        Remedy::write_string(r"my\x20app.service")
    );
}

#[test]
fn what_cannot_be_known_is_told_how_to_find() {
    for (text, advice) in [
        ("4711", "systemctl status 4711"),
        ("/usr/sbin/nginx", "such as \"nginx.service\""),
        ("/proc/4711/cgroup", "systemctl status 4711"),
        ("!nginx.service", "action = \"exclude\""),
        ("multi-user.target", "services that it starts"),
        ("/a/**/b", "one \"*\" for each directory"),
        ("/a/../b", "from the root"),
        ("web-[0.service", "[0-3]"),
        ("python3", "write a unit"),
        (".service", "write a unit"),
        ("a%b,.service", "in each string"),
        (&"x".repeat(2000), "at most 1024 bytes"),
    ] {
        let problem = wrong(text);
        let help = problem.help.to_string();
        assert!(help.contains(advice), "{text}: {help}");
        assert!(problem.note.is_some());
    }
    assert_eq!(wrong("").code, Code::EmptyName);
    assert_eq!(wrong("web-[0.service").code, Code::BadGlob);
}

#[test]
fn any_is_no_application() {
    // so that the list tells to leave the line out
    for text in ["*", "any", "all"] {
        wrong(text);
    }
}

#[test]
fn equal_ones_are_one() {
    let texts = ["b.service", "/a/x", "a/x", "b.service"];
    let all = texts.iter().map(|text| application(text).unwrap());
    let normal = normalized(all.collect());
    let texts: Vec<&str> = normal.iter().map(Pattern::as_str).collect();
    assert_eq!(texts, ["/a/x", "b.service"]);
}
