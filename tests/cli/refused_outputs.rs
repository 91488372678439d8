//! What is wrong with an output is one line with the code of its kind, in which no password is.

use crate::outputs::{config, folder, ran, refused};

#[test]
fn what_is_wrong_with_an_output_is_one_line_with_the_code_of_its_kind() {
    let (_directory, path) = folder();
    let missing = format!("file:{}/no/such", path.display());
    for (url, parts) in [
        (
            "nosuch://h",
            &[
                "'nosuch://h' for --sink: expected stdout, file:PATH",
                "there is no nosuch:",
            ][..],
        ),
        (
            "stdout?framin=nul",
            &["'framin' for --sink", "did you mean framing?"],
        ),
        (
            "stdout?framing=csv",
            &["'framing=csv' for --sink: expected lines, nul"],
        ),
        (
            "stdout?envelope={massage}",
            &[
                "'envelope={massage}' for --sink: expected raw, json, or a text with fields",
                "{message} is the nearest",
            ],
        ),
        (
            "stdout?name=a&name=b",
            &["'name=b' for --sink: expected each option once"],
        ),
        (
            "stdout?name=%zz",
            &["'name' for --sink: expected escapes such as %3F"],
        ),
        (
            "file://host/x",
            &["'file://host/x' for --sink: expected file:///PATH: a file has no host"],
        ),
        ("", &["missing value for --sink"]),
    ] {
        refused(&["--sink", url], &[], 2, parts);
        if !url.is_empty() {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| part.replace("--sink", "DRAINLINE_SINK"))
                .collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            refused(&[], &[("DRAINLINE_SINK", url)], 78, &parts);
        }
    }
    refused(
        &["--sink", &missing],
        &[],
        1,
        &["--sink file:", "No such file"],
    );
    for (table, parts) in [
        (
            "[[output]]\nname = \"a\"",
            &["1:1: expected a sink in every [[output]]"][..],
        ),
        (
            "[[output]]\nsink = \"nosuch:\"",
            &[":2:8: invalid value 'nosuch:' for sink: expected stdout"],
        ),
        (
            "[[output]]\nsink = \"null\"\nframin = \"nul\"",
            &[":3:1: unknown key 'framin' in [[output]]: did you mean framing?"],
        ),
        (
            "[[output]]\nsink = \"null?name=a\"\nname = \"b\"",
            &[":3:1: name is given twice: expected it here or in the URL"],
        ),
        (
            "[[output]]\nsink = \"null\"\nrequired = 1",
            &[":3:12: invalid value 1 for required: expected true or false"],
        ),
        (
            "[[output]]\nname = \"a\"\nsink = \"null\"\n[[output]]\nname = \"a\"\nsink = \"stdout\"",
            &[":5:8: invalid value 'a' for name: expected a name that no other output has"],
        ),
        (
            "[[output]]\nsink = \"stdout\"\nname=\"a\"\n[[output]]\nsink = \"stdout\"",
            &[":5:8: invalid value 'stdout' for sink: expected each file once, and stdout once"],
        ),
        (
            "[[output]]\nsink = \"null\"\n[[output]]\nsink = \"null\"",
            &[":4:8: invalid value 'null' for sink: expected a name beside it"],
        ),
        (
            "[[output]]\nsink = \"null\"\nname = \"archive\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nto = [\"archiv\"]",
            &[
                ":6:6: invalid value 'archiv' for to: expected the name of an output: did you mean archive?",
            ],
        ),
        (
            "[[output]]\nsink = \"null\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nto = [\"archive\"]",
            &[
                ":5:6: invalid value 'archive' for to: expected the name of an output, and none has one",
            ],
        ),
        (
            "[[output]]\nsink = \"null\"\nrequired = false",
            &[":3:12: invalid value 'false' for required: expected true of one output at least"],
        ),
        (
            "[[output]]\nsink = \"null\"\nbuffer_bytes = \"1MiB\"",
            &[":3:16: invalid value '1MiB' for buffer_bytes: expected required = false beside it"],
        ),
        (
            "[[output]]\nsink = \"stdout\"\n[[output]]\nsink = \"null\"\nrequired = false\nbuffer_bytes = \"4KiB\"",
            &[":6:16: invalid value '4KiB' for buffer_bytes: expected at least "],
        ),
        (
            "[[output]]\nname = \"a\"\nsink = \"null\"\nrequired = false\n[[output]]\nsink = \"stdout\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nto = [\"a\"]",
            &[":9:6: invalid value 'a' for to: expected an output among them that is required"],
        ),
        (
            "[[output]]\nname = \"a\"\nsink = \"null\"\n[[output]]\nsink = \"stdout\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nto = [\"a\"]",
            &[":5:8: invalid value 'stdout' for sink: expected a listener that sends to it"],
        ),
    ] {
        let file = config(&path, table);
        let (checked, _) = ran(&["check", "--config", &file], &[]);
        checked.assert_code(78);
        assert_eq!(checked.stderr.lines().count(), 1, "{checked}");
        for part in parts {
            assert!(
                checked.stderr.contains(part),
                "{part:?} is not in {checked}"
            );
        }
    }
    let table = "[[output]]\nsink = \"null\"\nname = \"archive\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nto = [\"archive\"]";
    let args = ["check", "--config", &config(&path, table), "--sink", "null"];
    let (checked, _) = ran(&args, &[]);
    checked.assert_code(78);
    let told = ":6:6: invalid value 'archive' for to: expected the name of an output, and none has \
                one (--sink replaces the outputs of the file)";
    assert!(checked.stderr.contains(told), "{checked}");
    // Which of several is meant.
    refused(
        &["--sink", "file:///a?keep=2", "--sink", "file:///b?keep=3"],
        &[],
        78,
        &["invalid value 'keep=2' for --sink file:///a: expected rotate_size"],
    );
    let config_as_sink = config(&path, "");
    let sink = format!("file:{config_as_sink}");
    refused(
        &["--config", &config_as_sink, "--sink", &sink],
        &[],
        78,
        &["for --sink: expected a file other than the configuration file"],
    );
}

/// The schemes of features that a build may have or not: what is wrong with the URL is told either
/// way, and the password in it is not.
#[test]
fn a_password_in_a_url_is_in_no_error() {
    let (_directory, path) = folder();
    for url in [
        "nosuch://me:hunter2@host/x",
        "kafka://me:hunter2@",
        "kafka://me:hunter2@host/t?nosuch=1",
        "redis://me:hunter2@",
        "redis://me:hunter2@host/s?nosuch=1",
        "redis://me:hunter2/x@host/s",
        "redis://me:hunter2?x@host/s",
        "redis://me:%hunter2@host/s",
        "redis://host/s?pasword=hunter2",
        "https://me:hunter2@?nosuch=1",
    ] {
        refused(&["--sink", url], &[], 2, &["for --sink: expected "]);
        refused(
            &[],
            &[("DRAINLINE_SINK", url)],
            78,
            &["for DRAINLINE_SINK: expected "],
        );
        for text in [
            format!("[[output]]\nsink = \"{url}\"\n"),
            format!("[[output]]\nsink = {url}\n"),
            format!("sink = \"{url}\"\n"),
        ] {
            let file = config(&path, &text);
            refused(&["--config", &file], &[], 78, &[" for sink: expected "]);
        }
    }
}
