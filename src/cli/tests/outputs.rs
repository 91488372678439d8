//! Outputs: URLs and their options, and that nobody is told a secret.

use drainline::ingest::OutputFraming;

use super::super::outputs::SCHEMES;
use super::super::outputs::probe::Probe;
use super::super::settings::{Settings, template};
use super::{printed, refused, settings};

fn probe(settings: &Settings) -> &Probe {
    let output = settings.all_outputs().next().expect("an output");
    output.destination.get().expect("a probe")
}

#[test]
fn options_of_a_url_are_rows_of_the_output_and_of_its_scheme() {
    let settings = settings(&["--sink", "probe://h?window=7&framing=nul&name=a%2Db"]);
    assert_eq!(probe(&settings).window, 7);
    let output = settings.all_outputs().next().expect("an output");
    assert_eq!(output.name.as_deref(), Some("a-b"));
    assert_eq!(output.framing(), Some(OutputFraming::Nul));
    assert_eq!(output.destination.to_string(), "probe://h");
    for (url, parts) in [
        (
            "probe://h?windo=7",
            &["'windo' for --sink: expected an option of probe://h: did you mean window?"][..],
        ),
        (
            "probe://h?window=x",
            &["'window=x' for --sink: expected a number from 1 to 1000"],
        ),
        (
            "probe://h?window=7&window=7",
            &["'window=7' for --sink: expected each option once"],
        ),
        (
            "probe://h?sink=null",
            &["'sink' for --sink: expected an option of probe://h"],
        ),
        (
            "probe://h?window",
            &["'probe://h?***' for --sink: expected options behind the ?"],
        ),
        ("probe://h?", &["expected options behind the ?"]),
        (
            "probe://h?name=%zz",
            &["'name' for --sink: expected escapes such as %3F"],
        ),
        ("probe://u@", &["expected probe://HOST: no host"]),
        (
            "nosuch://h",
            &["'nosuch://h' for --sink", "there is no nosuch:"],
        ),
        (
            "file://h/x",
            &["'file://h/x' for --sink: expected file:///PATH: a file has no host"],
        ),
        (
            "file:///a%!b",
            &["expected file:///PATH: a percent sign is %%"],
        ),
        #[cfg(not(feature = "kafka"))]
        (
            "kafka://h/t",
            &["with the feature kafka (cargo install --path . --features kafka)"],
        ),
    ] {
        refused(&["--sink", url], 2, parts);
    }
}

#[test]
fn secrets_are_in_no_error_and_in_nothing_that_is_printed() {
    const SECRET: &str = "hunter2";
    for url in [
        "probe://me:hunter2@h",
        "probe://h?password=hunter2",
        "probe://:hunter2@h?window=7&name=a",
    ] {
        let settings = settings(&["--sink", url]);
        let password = &probe(&settings).password;
        assert_eq!(password.text.as_ref().map(|it| it.reveal()), Some(SECRET));
        let told = format!("{}{settings:?}", settings.effective());
        assert!(!told.contains(SECRET), "{told}");
        let line = "\n# password = \"***\"  # --sink; not shown, so it is missing here\n";
        assert!(told.contains(line), "{told}");
    }
    for url in [
        "prob://me:hunter2@h",
        "kafka://me:hunter2@h",
        "probe://me:hunter2@",
        "probe://me:hunter2%zz@h",
        "probe://me:hunter2@h?windo=7",
        "probe://h?pasword=hunter2",
        "probe://h?hunter2",
        "probe://me:a/hunter2@h",
        "probe://me:hunter2/a@h",
        "probe://me:a?hunter2@h",
        "probe://me:hunter2?a=b@h",
        "probe://me:a?hunter2=b@h",
        "probe://me:hun%hunter2@h",
        "probe://h?password=hunter2%zz",
        "probe://h?password=hunter2&password=hunter2",
        "probe://me:hunter2@h?password=hunter2",
        "probe://me:hunter2@h?password_file=/x",
        "probe://me:hunter2@h\nnull\nnull",
    ] {
        let error = super::typed(&["--sink", url]);
        if let Ok(outcome) = error {
            panic!("{url} is accepted: {outcome:?}");
        }
        let line = error.expect_err("refused").line;
        assert!(!line.contains(SECRET), "{line}");
    }
}

#[test]
fn what_is_given_twice_for_a_secret_is_a_contradiction() {
    refused(
        &["--sink", "probe://h?password_file=/x&password_env=X"],
        78,
        &[
            "invalid value 'password_env=X' for --sink probe://h: expected one of password, password_file or password_env",
        ],
    );
}

#[test]
fn every_option_of_every_scheme_is_in_the_help_and_in_the_printed_file() {
    let (help, file) = (printed("--help"), template());
    for entry in SCHEMES {
        for url in entry.urls() {
            assert!(help.contains(&url), "{url}");
            assert!(file.contains(&url), "{url}");
        }
        for row in entry.rows() {
            let line = format!("\n# {} = ", row.key());
            assert!(file.contains(&line), "{line}");
            let option = format!("\n      {}=", row.key());
            assert!(help.contains(&option), "{option}");
        }
    }
}
