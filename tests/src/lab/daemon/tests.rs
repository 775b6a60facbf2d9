//! A stub in the daemon's place: the laboratory is tested, not the daemon.

use super::*;

/// Speaks the daemon's protocol: ready with a configuration that has no `bad` in it, again at
/// SIGHUP.
const STUB: &str = r#"
use Socket; use IO::Handle; STDOUT->autoflush(1);
my ($command, %option) = @ARGV;
my ($config, $pins) = @option{"--config", "--pin-path"};
if ($command eq "detach") { rmdir $pins; exit 0 }
if ($command ne "run") { print "$command $config\n"; exit 3 }
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die; connect($socket, sockaddr_un($ENV{NOTIFY_SOCKET})) or die;
sub notify { send($socket, $_[0], 0) or die }
sub load { open(my $file, $config) or die; my $text = join "", <$file>; print "config $text\n"; $text !~ /bad/ }
exit 78 unless load();
$SIG{HUP} = sub { notify("RELOADING=1\nMONOTONIC_USEC=1"); load(); print STDERR "1 change\n"; notify("READY=1") };
$SIG{TERM} = sub { exit 0 };
mkdir $pins; notify("STATUS=up\nREADY=1");
sleep 1 while 1;
"#;

#[test]
fn the_daemon_is_driven_through_its_life() -> Result<()> {
    let directory = TempDir::new()?;
    let (source, binary) = (
        directory.path().join("stub.pl"),
        directory.path().join("stub"),
    );
    std::fs::write(&source, format!("#!/usr/bin/perl\n{STUB}"))?;
    // copied by another process: a file that this one has open for writing cannot be executed
    process::succeed(Command::new("install").args([&source, &binary]), deadline())?;
    let netns = Netns::new("lab-daemon")?;
    let launch = Launch {
        binary: Some(binary),
        ..Launch::default()
    };

    let mut daemon = Daemon::spawn(&netns, "first", launch.clone())?;
    daemon.ready(deadline())?;
    daemon.write_config("second")?;
    daemon.signal(Signal::SIGHUP)?;
    daemon.reload_done(deadline())?;
    assert_eq!(
        daemon.wait_line(|line| line.starts_with("config s"), deadline())?,
        "config second"
    );
    assert!(
        daemon
            .wait_line(|line| line.starts_with("config"), Instant::now())
            .is_err()
    );
    let printed = daemon.run(&["status", "--json"]);
    assert!(printed.is_err(), "what it prints is no JSON");
    let output = daemon.run(&["status"])?;
    assert_eq!((output.status.code(), daemon.output().len()), (Some(3), 3));

    daemon.signal(Signal::SIGKILL)?;
    assert_eq!(daemon.wait_exit(deadline())?, 128 + 9);
    let pins = daemon.pin_path().to_owned();
    assert!(pins.exists());
    daemon.restart()?;
    daemon.ready(deadline())?;
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    drop(daemon);
    assert!(!pins.exists());

    let mut bad = Daemon::spawn(&netns, "bad", launch)?;
    let error = bad
        .ready(deadline())
        .expect_err("not ready with a bad configuration");
    assert!(
        error
            .to_string()
            .starts_with("the daemon exited before READY=1 came\n  config bad"),
        "{error:#}"
    );
    assert_eq!(bad.wait_exit(deadline())?, 78);
    Ok(())
}
