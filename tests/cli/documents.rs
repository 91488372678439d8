//! What the README and the long texts tell readers to type, or to write into a file, is what the
//! program takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::certificates::Certificates;
use crate::common::child::Drainline;

/// The README and the long texts.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = fs::read_dir(root.join("src/docs")).unwrap();
    let texts = texts.map(|entry| entry.unwrap().path());
    let texts = texts.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    texts.chain([root.join("README.md")]).collect()
}

/// The arguments of each command for the program that a document shows in a block: typed in a
/// shell, or in the unit of a service.
fn commands(document: &str) -> Vec<Vec<String>> {
    let document = document.replace(" \\\n", " ");
    // Every other piece is in a block.
    let blocks = document.split("```").skip(1).step_by(2);
    let typed = blocks.filter(|block| block.starts_with("sh\n") || block.starts_with("ini\n"));
    // A command may go over several lines.
    let typed: String = typed.collect::<String>().replace("\\\n    ", "");
    typed
        .lines()
        .filter_map(|line| {
            let line = line.split(" > ").next()?.trim_end_matches(" &");
            let (program, arguments) = line.split_once(' ')?;
            let program = program.strip_prefix("ExecStart=").unwrap_or(program);
            let is_ours = Path::new(program).file_name()? == "drainline";
            // No quotes have a space in them.
            let words = arguments
                .split_whitespace()
                .map(|word| word.trim_matches('\''));
            is_ours.then(|| words.map(str::to_owned).collect())
        })
        .collect()
}

/// The configuration files that a document shows.
fn files(document: &str) -> Vec<&str> {
    let blocks = document.split("```").skip(1).step_by(2);
    let files = blocks.filter_map(|block| block.strip_prefix("toml\n"));
    // Not what stands in the manifest of a program that embeds the library.
    files
        .filter(|file| !file.starts_with("drainline ="))
        .collect()
}

#[test]
fn every_configuration_file_that_the_documents_show_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("drainline.toml");
    let certificates = Certificates::new();
    let authority = certificates.authority();
    for name in ["ca.pem", "redis-ca.pem", "http-ca.pem"] {
        fs::copy(&authority, directory.path().join(name)).unwrap();
    }
    for name in ["password", "redis-password", "token"] {
        fs::write(directory.path().join(name), "secret\n").unwrap();
    }
    let mut seen = 0;
    for document in documents() {
        for file in files(&fs::read_to_string(&document).unwrap()) {
            let folder = directory.path().display().to_string();
            let file = file.replace("/var/log/drainline", &folder);
            let file = file.replace("/etc/drainline", &folder);
            fs::write(&path, &file).unwrap();
            let arguments = ["check", "--config", path.to_str().unwrap()];
            let exit = Drainline::with(&arguments).bare().spawn().wait();
            assert_eq!(exit.code, Some(0), "{}: {file}\n{exit}", document.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "the README and configuration.md show so many");
}

#[test]
fn every_command_that_the_documents_show_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = format!("file:{}", directory.path().join("messages").display());
    let certificates = Certificates::new();
    let [_, _, _, certificate, _, key] = certificates.listening("");
    let authority = certificates.authority();
    let mut seen = 0;
    for path in documents() {
        for mut arguments in commands(&fs::read_to_string(&path).unwrap()) {
            let is_over_tls = arguments
                .iter()
                .any(|argument| argument.starts_with("tls://"));
            if is_over_tls && !cfg!(feature = "tls") {
                continue;
            }
            let is_server = arguments[0].starts_with("--");
            arguments.push(if is_server { "--check" } else { "--help" }.to_owned());
            for argument in &mut arguments {
                match argument.as_str() {
                    "server.pem" => argument.clone_from(&certificate),
                    "server.key" => argument.clone_from(&key),
                    "clients-ca.pem" => argument.clone_from(&authority),
                    text if text.starts_with("file:") => argument.clone_from(&file),
                    _ => {}
                }
            }
            let launch = Drainline::with(&arguments)
                .env("HEC_TOKEN", "secret")
                .bare();
            let exit = launch.spawn().wait();
            assert_eq!(
                exit.code,
                Some(0),
                "{}: {arguments:?}: {exit}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen >= 6, "the README and leaks.md show so many");
}
