//! Permissions of the file: a user who can change it can send production's packets anywhere. So
//! only root, and the user that the daemon runs as, may write the file and each directory of its
//! path, as with sudo and sshd.

use std::ffi::CString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

use crate::source::path;

const STICKY: u32 = 0o1000;
const BY_GROUP: u32 = 0o020;
const BY_OTHERS: u32 = 0o002;

/// The kind of object that a name of the path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// A symbolic link: its owner can only replace it.
    is_link: bool,
    is_directory: bool,
    owner: u32,
    group: u32,
    mode: u32,
    /// More users have rights than the mode shows; the group bits are their upper limit (acl(5)).
    has_list: bool,
    /// No user can write there.
    is_read_only: bool,
}

/// What is wrong with the rights of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It belongs to another user.
    Owner,
    /// These bits of its mode let others write.
    Mode(u32),
}

/// Whether users other than root and `user` can change it, or what a name in it leads to.
/// `is_shared` if it is in a sticky directory: there each user can create files, and change only
/// his own.
fn fault(seen: &Seen, user: u32, is_shared: bool) -> Option<Fault> {
    let Seen {
        is_link,
        is_directory,
        owner,
        group,
        mode,
        has_list,
        is_read_only,
    } = *seen;
    if is_link && !is_shared {
        return None;
    }
    // a mount that cannot be written by may be of what its owner can write outside
    if owner != 0 && owner != user {
        return Some(Fault::Owner);
    }
    if is_read_only {
        return None;
    }
    // in a sticky directory users may change only their own files
    if is_link || is_directory && mode & STICKY != 0 {
        return None;
    }
    let by_group = if group != 0 || has_list {
        mode & BY_GROUP
    } else {
        0
    };
    let bits = by_group | mode & BY_OTHERS;
    (bits != 0).then_some(Fault::Mode(bits))
}

/// Why the file is not trusted, with the remedy. `None` if only trusted users can change it, or if
/// it cannot be inspected.
pub fn distrust(path: &Path) -> Option<String> {
    let (user, is_confined) = (geteuid().as_raw(), is_confined());
    let look = |path: &Path, found: &Metadata| seen(path, found, is_confined);
    let root = Path::new("/");
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut is_shared = false;
    let first = fs::symlink_metadata(root)
        .ok()
        .map(|found| (root.to_owned(), found));
    let rest = path::to(&path)
        .into_iter()
        .filter_map(|stop| Some((stop.path(), stop.found.ok()?)));
    for (path, found) in first.into_iter().chain(rest) {
        let seen = look(&path, &found);
        if let Some(fault) = fault(&seen, user, is_shared) {
            return Some(sentence(&path, &seen, fault, user));
        }
        if !seen.is_link {
            is_shared = seen.is_directory && seen.mode & STICKY != 0 && !seen.is_read_only;
        }
    }
    None
}

fn seen(path: &Path, found: &Metadata, is_confined: bool) -> Seen {
    let (is_link, mode) = (found.is_symlink(), found.mode() & 0o7777);
    let is_read_only =
        || statvfs(path).is_ok_and(|there| there.flags().contains(FsFlags::ST_RDONLY));
    Seen {
        is_link,
        is_directory: found.is_dir(),
        owner: found.uid(),
        group: found.gid(),
        mode,
        has_list: !is_link && mode & BY_GROUP != 0 && has_list(path),
        is_read_only: !is_link && !is_confined && is_read_only(),
    }
}

/// A service of systemd may have read-only mounts (`ProtectSystem=`) over directories that other
/// users can write.
fn is_confined() -> bool {
    std::env::var_os("INVOCATION_ID").is_some()
}

fn has_list(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let name = c"system.posix_acl_access";
    // SAFETY: both end with 0 and live through the call, which writes nothing.
    unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

fn sentence(path: &Path, seen: &Seen, fault: Fault, user: u32) -> String {
    let path = path.display();
    let trusted = if user == 0 {
        "root".to_owned()
    } else {
        format!("root and user {user}")
    };
    let Seen {
        owner, group, mode, ..
    } = seen;
    let what = if seen.is_directory {
        "what is in it"
    } else {
        "it"
    };
    match fault {
        Fault::Owner => {
            let flag = if seen.is_link { "-h " } else { "" };
            format!(
                "{path} belongs to user {owner}, and only {trusted} may change {what}; chown {flag}root {path}"
            )
        }
        Fault::Mode(bits) => {
            let who = match bits {
                BY_GROUP => "g",
                BY_OTHERS => "o",
                _ => "go",
            };
            let list = if seen.has_list {
                ", with an access control list"
            } else {
                ""
            };
            format!(
                "users other than {trusted} may write {path} (mode {mode:04o}, owner {owner}, \
                 group {group}{list}); chmod {who}-w {path}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Seen = Seen {
        is_link: false,
        is_directory: false,
        owner: 0,
        group: 0,
        mode: 0o644,
        has_list: false,
        is_read_only: false,
    };
    const DIRECTORY: Seen = Seen {
        is_directory: true,
        mode: 0o755,
        ..FILE
    };
    const LINK: Seen = Seen {
        is_link: true,
        mode: 0o777,
        ..FILE
    };

    #[test]
    fn root_and_the_own_user_may_write() {
        for user in [0, 1000] {
            for owner in [0, user] {
                for mode in [0o600, 0o644, 0o755, 0o640] {
                    for (seen, is_above) in [(FILE, false), (DIRECTORY, true)] {
                        let seen = Seen {
                            owner,
                            mode,
                            group: 5,
                            ..seen
                        };
                        assert_eq!(fault(&seen, user, is_above), None);
                    }
                }
            }
            for seen in [FILE, DIRECTORY] {
                let owner = 1001;
                let of_another = Seen { owner, ..seen };
                assert_eq!(fault(&of_another, user, false), Some(Fault::Owner));
            }
        }
        // the group of root is root
        assert_eq!(
            fault(
                &Seen {
                    mode: 0o664,
                    ..FILE
                },
                0,
                false
            ),
            None
        );
    }

    #[test]
    fn whoever_else_may_write_is_one_too_many() {
        for (mode, group, bits) in [
            (0o666, 0, 0o002),
            (0o666, 5, 0o022),
            (0o664, 5, 0o020),
            (0o646, 5, 0o002),
        ] {
            assert_eq!(
                fault(
                    &Seen {
                        mode,
                        group,
                        ..FILE
                    },
                    0,
                    false
                ),
                Some(Fault::Mode(bits)),
                "{mode:o}"
            );
            let directory = Seen {
                mode: mode | 0o111,
                group,
                ..DIRECTORY
            };
            assert_eq!(
                fault(&directory, 0, false),
                Some(Fault::Mode(bits)),
                "{mode:o}"
            );
            // only what is theirs
            assert_eq!(
                fault(
                    &Seen {
                        mode: directory.mode | STICKY,
                        ..directory
                    },
                    0,
                    false
                ),
                None
            );
            assert_eq!(
                fault(
                    &Seen {
                        mode,
                        group,
                        is_read_only: true,
                        ..FILE
                    },
                    0,
                    false
                ),
                None
            );
        }
        let with_list = Seen {
            mode: 0o664,
            has_list: true,
            ..FILE
        };
        assert_eq!(
            fault(&with_list, 0, false),
            Some(Fault::Mode(0o020)),
            "the group's bits are those of the list"
        );
        assert_eq!(
            fault(
                &Seen {
                    mode: 0o1777,
                    owner: 7,
                    ..DIRECTORY
                },
                0,
                false
            ),
            Some(Fault::Owner)
        );
    }

    #[test]
    fn a_link_is_its_owners_where_everybody_may_make_one() {
        assert_eq!(fault(&Seen { owner: 7, ..LINK }, 0, false), None);
        assert_eq!(
            fault(&Seen { owner: 7, ..LINK }, 0, true),
            Some(Fault::Owner)
        );
        assert_eq!(fault(&Seen { owner: 7, ..LINK }, 7, true), None);
        assert_eq!(fault(&LINK, 0, true), None);
    }

    #[test]
    fn a_sentence_names_object_value_and_remedy() {
        let told = |seen: Seen| {
            let fault = fault(&seen, 0, false).expect("a fault");
            sentence(Path::new("/etc/mirror.toml"), &seen, fault, 0)
        };
        assert_eq!(
            told(Seen {
                mode: 0o666,
                group: 5,
                ..FILE
            }),
            "users other than root may write /etc/mirror.toml (mode 0666, owner 0, group 5); \
             chmod go-w /etc/mirror.toml"
        );
        assert_eq!(
            told(Seen {
                owner: 1000,
                ..FILE
            }),
            "/etc/mirror.toml belongs to user 1000, and only root may change it; chown root /etc/mirror.toml"
        );
    }
}
