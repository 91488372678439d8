//! How each peer's program is had: found on the machine, or built or unpacked into `target/peers`
//! when it is first used.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::Outcome;
use crate::peer::Peer;

/// Where a program was found, or why it is not there and how to get it.
pub(crate) type Program = Result<PathBuf, String>;

/// This checkout, and where its build puts things.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The program under test, which is also the load generator.
pub(crate) const DRAINLINE: &str = env!("CARGO_BIN_EXE_drainline");

/// The program of a peer, made if need be.
pub(crate) fn program(peer: Peer) -> Program {
    match peer {
        Peer::Drainline => Ok(DRAINLINE.into()),
        Peer::Library => env::current_exe().map_err(|error| error.to_string()),
        Peer::WriteCall | Peer::WriteAndSync(_) => Ok(PathBuf::new()),
        Peer::Go => {
            let built = peers().join("go-peer");
            let mut build = Command::new("go");
            build
                .args(["build", "-buildvcs=false", "-o"])
                .arg(&built)
                .arg(".")
                .current_dir(source("go"));
            run(&mut build, "go (Debian: golang-go)")?;
            Ok(built)
        }
        Peer::Tokio | Peer::TokioOneThread => cargo_build("tokio", "tokio-peer"),
        Peer::Floor => cargo_build("floor", "floor-peer"),
        Peer::FloorTls => cargo_build("tls", "floor-tls"),
        Peer::Rsyslog => find("rsyslogd", "rsyslog"),
        Peer::SyslogNg => find("syslog-ng", "syslog-ng-core").or_else(|_| {
            let unpacked = unpacked_syslog_ng();
            let mut get = Command::new(source("syslog-ng").join("get"));
            get.args(unpacked.parent());
            run(&mut get, "syslog-ng-core, or apt-get and dpkg to unpack it")?;
            Ok(unpacked)
        }),
        Peer::Iperf3 => find("iperf3", "iperf3"),
        Peer::KafkaLoop => cargo_build("kafka", "kafka-loop"),
        Peer::UreqLoop => cargo_build("http", "ureq-loop"),
        Peer::LinesToBulk => cargo_build("http", "lines-to-bulk"),
        Peer::RedisBenchmark => find("redis-benchmark", "redis-tools"),
    }
}

/// What scenarios with a stream of Redis write to.
pub(crate) fn redis_server() -> Program {
    find("redis-server", "redis-server")
}

/// What scenarios with Kafka write to.
pub(crate) fn kafka_mock() -> Program {
    static BUILT: OnceLock<Program> = OnceLock::new();
    let build = || cargo_build("kafka", "kafka-mock");
    BUILT.get_or_init(build).clone()
}

/// The load generator over TLS.
pub(crate) fn tls_load() -> Program {
    static BUILT: OnceLock<Program> = OnceLock::new();
    BUILT.get_or_init(|| cargo_build("tls", "tls-load")).clone()
}

/// What a server over TLS shows, and its key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// The same for everybody, made when it is first used.
pub(crate) fn certificate() -> Outcome<Certificate> {
    let folder = peers().join("certificate");
    let certificate = Certificate {
        chain: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    if !certificate.key.is_file() {
        fs::create_dir_all(&folder)?;
        let mut make = Command::new(tls_load()?);
        make.arg("certificate").arg(&folder);
        run(&mut make, "the load over TLS")?;
    }
    Ok(certificate)
}

/// Files that are to be on the disk, not in memory.
pub(crate) fn disk_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Where syslog-ng is once it was had.
pub(crate) fn unpacked_syslog_ng() -> PathBuf {
    peers().join("syslog-ng/syslog-ng")
}

fn peers() -> PathBuf {
    disk_folder().with_file_name("peers")
}

fn source(peer: &str) -> PathBuf {
    Path::new(ROOT).join("benches/peers").join(peer)
}

/// Its own workspace, its own lock file, its own folder: nothing of it enters drainline's build.
fn cargo_build(peer: &str, binary: &str) -> Program {
    let folder = peers().join(peer);
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--release", "--locked", "--quiet", "--target-dir"])
        .arg(&folder);
    build
        .arg("--manifest-path")
        .arg(source(peer).join("Cargo.toml"));
    run(&mut build, "cargo and the registry")?;
    Ok(folder.join("release").join(binary))
}

fn find(program: &str, package: &str) -> Program {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    found.ok_or(format!("not installed (Debian: {package})"))
}

fn run(command: &mut Command, needs: &str) -> Result<(), String> {
    let failed = |why: &str| format!("cannot be had: {why}; needs {needs}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(&error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(failed(stderr.lines().last().unwrap_or("no reason given")))
}
