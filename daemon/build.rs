//! Builds the eBPF programs and hands the object to `include_bytes!` as `$OUT_DIR/mirror.o`.
//!
//! The object is reproducible: paths are remapped, one codegen unit, debug information stripped
//! (BTF stays).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().unwrap_or(&manifest).to_owned();
    for input in ["ebpf", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(input).display()
        );
    }
    println!("cargo::rustc-env=TRAFFIC_MIRROR_RUSTC={}", compiler());
    let built = build(&workspace, &out);
    strip(&built, &out.join("mirror.o"));
}

fn build(workspace: &Path, out: &Path) -> PathBuf {
    let target_dir = out.join("bpf");
    let home = env::var("CARGO_HOME").map_or_else(
        |_| PathBuf::from(variable("HOME")).join(".cargo"),
        PathBuf::from,
    );
    let sysroot = sysroot();
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // else LLVM calls a loop over single bytes to clear a struct
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        // 32-bit jumps and arithmetic; every kernel of the floor (5.17) has them
        "-Ctarget-cpu=v3".to_owned(),
        format!(
            "--remap-path-prefix={}=/traffic-mirror",
            workspace.display()
        ),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/rust", sysroot.display()),
    ];
    // the programs run on the CPU of the daemon, whose loads may be done in another order than they
    // stand in (ebpf/src/bpf/epoch.rs)
    if variable("CARGO_CFG_TARGET_ARCH") != "x86_64" {
        flags.push("--cfg=weakly_ordered".to_owned());
    }
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--locked",
            "--quiet",
            "--package=traffic-mirror-ebpf",
            "--bin=mirror",
            "--profile=bpf",
        ])
        .args(["-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        // the nested build alone may use unstable options
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        // the outer cargo's idea of the compiler (clippy, coverage) is not for this one
        .env_remove("RUSTC")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    if !on_path("bpf-linker") {
        stop("bpf-linker is missing; run `make setup`");
    }
    if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        stop("the rust-src component is missing; run `rustup component add rust-src`");
    }
    match cargo.status() {
        Ok(status) if status.success() => target_dir.join(TARGET).join("bpf/mirror"),
        Ok(status) => stop(&format!("the eBPF programs did not build ({status})")),
        Err(error) => stop(&format!("cargo did not start: {error}")),
    }
}

/// Strips with the objcopy that comes with the toolchain: none for BPF need be installed.
fn strip(from: &Path, to: &Path) {
    let sysroot = sysroot();
    let tool = sysroot
        .join("lib/rustlib")
        .join(variable("HOST"))
        .join("bin/rust-objcopy");
    let status = Command::new(&tool)
        .arg("--strip-debug")
        .args([from, to])
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => stop(&format!("{} failed ({status})", tool.display())),
        Err(error) => stop(&format!("{} did not start: {error}", tool.display())),
    }
}

fn sysroot() -> PathBuf {
    rustc(&["--print", "sysroot"]).into()
}

/// Such as `rustc 1.98.1 (0123456789 2026-11-05)`.
fn compiler() -> String {
    rustc(&["--version"])
}

/// What the compiler answers.
fn rustc(arguments: &[&str]) -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    match Command::new(rustc).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => stop(&format!("rustc {} fails", arguments.join(" "))),
    }
}

fn on_path(tool: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(tool).is_file()))
}

fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| stop(&format!("{name} is not set; this script is run by cargo")))
}

fn stop(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
