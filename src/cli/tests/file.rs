//! The configuration file and the environment, by the rows of the flags: what they set, and what
//! `drainline check` and `drainline config` print of them.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use drainline::Listener;
use drainline::ingest::IngestListener;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tempfile::TempDir;

use super::super::command::Parsed;
use super::super::flag::Flag;
use super::super::kinds::{InFile, quoted};
use super::super::listen::ListenUrl;
use super::super::outputs::{Entry, SCHEMES};
use super::super::settings::{Settings, flags, listener_rows, parse_in, template};
use super::super::usage::UsageError;
use super::{ALL, settings};

/// A folder with a configuration file in it.
pub(super) struct Config {
    _folder: TempDir,
    path: PathBuf,
}

impl Config {
    pub(super) fn of(text: impl AsRef<[u8]>) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("drainline.toml");
        fs::write(&path, text).expect("a file");
        Config {
            _folder: folder,
            path,
        }
    }

    /// The settings of this file, of an environment and of a command line.
    fn with(&self, variables: &[(&str, &str)], words: &[&str]) -> Result<Settings, UsageError> {
        let path = self.path.to_str().expect("UTF-8");
        let args = ["drainline", "--config", path];
        parsed(args.iter().copied().chain(words.iter().copied()), variables)
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.with(&[], &[]).expect("a good file")
    }

    /// The error, without the file's name.
    #[track_caller]
    pub(super) fn refused(&self) -> String {
        let error = self.with(&[], &[]).map(drop).expect_err("refused");
        assert_eq!(error.code, 78, "{error}");
        assert!(!error.line.contains(char::is_control), "{error:?}");
        let place = format!("{}:", self.path.display());
        error.line.replace("drainline: ", "").replace(&place, "")
    }
}

fn parsed<'a>(
    args: impl Iterator<Item = &'a str>,
    variables: &[(&str, &str)],
) -> Result<Settings, UsageError> {
    let environment = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    match parse_in(args.map(OsString::from), environment)? {
        Parsed::Run(settings) => Ok(*settings),
        Parsed::Print(text) => panic!("{text}"),
    }
}

/// The settings alone, not where they come from.
fn values(mut settings: Settings) -> String {
    settings.forget_origins();
    format!("{settings:?}")
}

/// A case of a row as the file has it.
fn written<S: Default>(row: &Flag<S>, case: &str) -> String {
    let takes = row.value().map(|value| value.in_file());
    match (takes, case.parse::<i128>()) {
        (Some(InFile::Number), Ok(_)) => case.to_owned(),
        _ => quoted(case),
    }
}

/// The rows that are settings: the file's own name is none.
fn of_settings() -> Vec<Flag<Settings>> {
    let mut flags = flags();
    flags.retain(|flag| flag.value().is_some() && flag.name != "config");
    flags
}

#[test]
fn every_row_is_set_by_the_file_by_a_variable_and_by_a_flag_alike() {
    for flag in of_settings() {
        let (good, bad) = flag.value().expect("a value").cases();
        for case in good {
            let typed = parsed(["drainline", &flag.long(), &case].into_iter(), &[]);
            let line = format!("{} = {}", flag.key(), written(&flag, &case));
            let in_file = Config::of(&line).with(&[], &[]);
            let variables = [(&*flag.variable(), &*case)];
            let in_environment = parsed(["drainline"].into_iter(), &variables);
            match typed {
                Ok(typed) => {
                    let typed = values(typed);
                    assert_eq!(in_file.map(values), Ok(typed.clone()), "{line}");
                    assert_eq!(in_environment.map(values), Ok(typed), "{variables:?}");
                }
                // A contradiction to a default.
                Err(error) => {
                    assert_eq!(error.code, 78, "{error}");
                    for refused in [in_file, in_environment] {
                        assert_eq!(refused.map(drop).map_err(|it| it.code), Err(78), "{line}");
                    }
                }
            }
        }
        for case in bad.iter().filter(|case| !case.is_empty()) {
            let line = format!("\n  {} = {}", flag.key(), written(&flag, case));
            let error = Config::of(&line).refused();
            let column = 6 + flag.key().len();
            let begin = format!("2:{column}: invalid value ");
            assert!(error.starts_with(&begin), "{line}: {error}");
            let expected = flag.value().expect("a value").expected();
            let part = format!(" for {}: expected {expected}", flag.key());
            assert!(error.contains(&part), "{line}: {error}");
            let variables = [(&*flag.variable(), &**case)];
            let error = parsed(["drainline"].into_iter(), &variables).map(drop);
            let error = error.expect_err("refused");
            assert_eq!(error.code, 78, "{error}");
            let part = format!("invalid value '{case}' for {}: ", flag.variable());
            assert!(error.line.contains(&part), "{error}");
        }
    }
}

#[test]
fn every_row_of_a_listener_is_set_by_its_table() {
    for row in listener_rows() {
        let (good, bad) = row.value().expect("a value").cases();
        let table = |case: &str| {
            // TLS takes an address that speaks it, a certificate, and for some a client CA.
            let tls = ["tls-cert", "tls-client-ca"].map(|beside| match row.name {
                name if name == beside || !name.starts_with("tls-") => String::new(),
                _ => format!("{} = \"a.pem\"\n", beside.replace('-', "_")),
            });
            let address = match row.name {
                "address" => "",
                name if name.starts_with("tls-") => {
                    &format!("address = \"tls://127.0.0.1:5140\"\n{}", tls.concat())
                }
                _ => "address = \"127.0.0.1:5140\"\n",
            };
            let line = format!("{} = {}", row.key(), written(&row, case));
            Config::of(format!("[[listener]]\n{address}{line}\n"))
        };
        for case in &good {
            let settings = match table(case).with(&[], &[]) {
                Ok(settings) => settings,
                Err(error) => {
                    assert_eq!(error.code, 78, "{error}");
                    continue;
                }
            };
            let effective = settings.effective();
            let part = format!("\n{} = ", row.key());
            assert!(effective.contains(&part), "{effective}");
            // The library's listener has it.
            let on = || Listener::on(([127, 0, 0, 1], 0).into());
            let own = settings.all_listeners().remove(0);
            let listener = own.of(on(), own.name.as_deref());
            let is_changed = format!("{listener:?}") != format!("{:?}", IngestListener::from(on()));
            // What files say is added when they are read.
            let is_of_files = row.name.starts_with("tls-");
            let expected = row.name != "address" && !is_of_files;
            assert_eq!(is_changed, expected, "{}", row.key());
        }
        for case in &bad {
            let error = table(case).refused();
            let part = format!(" for {}: expected ", row.key());
            assert!(error.contains(&part), "{case}: {error}");
        }
    }
}

/// Whoever asks for TLS must not find out later that nothing was encrypted, or that everybody may
/// connect.
#[test]
#[cfg(feature = "tls")]
fn tls_that_no_listener_has_is_refused_where_it_was_asked_for() {
    let plain = "[[listener]]\naddress = \"tcp://127.0.0.1:1\"\n";
    let with = "[[listener]]\naddress = \"tls://127.0.0.1:2\"\n";
    for (row, case) in [
        ("tls_cert", "\"a.pem\""),
        ("tls_key", "\"a.key\""),
        ("tls_client_ca", "\"ca.pem\""),
        ("tls_client_ca", "\"off\""),
        ("tls_client_crl", "\"crl.pem\""),
        ("tls_client_auth", "\"required\""),
        ("tls_client_names", "[\"a.example\"]"),
        ("tls_min_version", "\"1.3\""),
    ] {
        let line = format!("{row} = {case}\n");
        let refused = |text: String, place: &str, expected: &str| {
            let told = Config::of(&text).refused();
            let begins = format!("{place}: invalid value '");
            assert!(told.starts_with(&begins), "{text}: {told}");
            let part = format!(" for {row}: expected {expected}");
            assert!(told.contains(&part), "{text}: {told}");
        };
        let column = row.len() + 4;
        refused(
            format!("{line}{plain}"),
            &format!("1:{column}"),
            "a listener that speaks TLS beside it, such as tls://127.0.0.1:1",
        );
        refused(
            format!("{plain}{line}"),
            &format!("3:{column}"),
            "an address beside it that speaks TLS, such as tls://127.0.0.1:1",
        );
        for (address, other) in [
            ("unix:/run/a.sock", "tls+unix:/run/a.sock"),
            ("systemd:a", "tls+systemd:a"),
        ] {
            refused(
                format!(
                    "tls_cert = \"b.pem\"\n{with}[[listener]]\naddress = \"{address}\"\n{line}"
                ),
                &format!("6:{column}"),
                &format!("an address beside it that speaks TLS, such as {other}"),
            );
        }
        let flag = format!("--{}", row.replace('_', "-"));
        let value = case.trim_matches(&['"', '[', ']'][..]);
        let words = ["drainline", "--listen", "127.0.0.1:0", &flag, value];
        let error = parsed(words.into_iter(), &[])
            .map(drop)
            .expect_err("refused");
        assert_eq!(error.code, 78, "{error}");
        let variables = [(&*flag[2..].replace('-', "_").to_uppercase(), value)];
        let variables = variables.map(|(name, value)| (format!("DRAINLINE_{name}"), value));
        let variables = variables.each_ref().map(|(name, value)| (&**name, *value));
        let error = parsed(words[..3].iter().copied(), &variables).map(drop);
        assert_eq!(error.map_err(|error| error.code), Err(78), "{row}");
    }
}

#[test]
#[cfg(feature = "tls")]
fn what_is_asked_of_the_certificates_of_clients_is_asked_everywhere_or_switched_off() {
    let with = |port: u16, lines: &str| {
        format!("[[listener]]\naddress = \"tls://127.0.0.1:{port}\"\n{lines}")
    };
    let cert = "tls_cert = \"a.pem\"\n";
    let (ca, off) = ("tls_client_ca = \"ca.pem\"\n", "tls_client_ca = \"off\"\n");
    for line in [
        "tls_client_auth = \"optional\"\n",
        "tls_client_names = [\"a.example\"]\n",
        "tls_client_crl = \"crl.pem\"\n",
    ] {
        let row = line.split(' ').next().expect("a key");
        for (text, place, expected) in [
            (
                format!("{cert}{line}{}", with(1, "")),
                2,
                "a client CA for tls://127.0.0.1:1, by --tls-client-ca, or by tls_client_ca",
            ),
            (
                format!("{cert}{line}{}{}", with(1, ca), with(2, "")),
                2,
                "a client CA for tls://127.0.0.1:2, by",
            ),
            (
                format!("{cert}{ca}{line}{}", with(1, off)),
                3,
                "a listener beside it that asks clients for certificates",
            ),
            (
                format!("{cert}{ca}{}", with(1, &format!("{off}{line}"))),
                6,
                "a client CA beside it, by tls_client_ca",
            ),
        ] {
            let told = Config::of(&text).refused();
            assert!(told.starts_with(&format!("{place}:")), "{text}: {told}");
            let part = format!("for {row}: expected {expected}");
            assert!(told.contains(&part), "{text}: {told}");
        }
        let text = format!("{cert}{ca}{line}{}{}", with(1, ""), with(2, off));
        Config::of(text).settings();
    }
}

#[test]
fn a_list_in_which_no_client_of_a_listener_can_be_is_refused_with_the_reason() {
    let table =
        |address: &str, lines: &str| format!("[[listener]]\naddress = \"{address}\"\n{lines}");
    let (unix, v4, v6) = ("unix:/tmp/a.sock", "127.0.0.1:1", "[fd00::1]:1");
    for (address, list, who) in [
        (
            unix,
            "[\"10.0.0.0/8\", \"::/0\"]",
            "a user such as uid:1000",
        ),
        (
            v4,
            "[\"uid:0\", \"fd00::/8\"]",
            "an IPv4 network such as 10.0.0.0/8",
        ),
        (
            v6,
            "[\"uid:0\", \"::ffff:10.0.0.0/104\"]",
            "an IPv6 network such as fd00::/8",
        ),
        ("[::]:1", "[\"uid:0\"]", "a network such as 10.0.0.0/8"),
    ] {
        for key in ["allow", "proxy_from"] {
            let line = format!("{key} = {list}\n");
            let own = Config::of(table(address, &line)).refused();
            assert!(own.starts_with("3:"), "{own}");
            let why = format!("{who} in it, since nobody else connects to {address}");
            let expected = format!(" for {key}: expected off, or {why}");
            assert!(own.contains(&expected), "{own}");
            let common = Config::of(line + &table(address, "")).refused();
            assert!(common.starts_with("1:"), "{common}");
            let expected =
                format!(" for {key}: expected {why}, or an {key} of its own in a [[listener]]");
            assert!(common.contains(&expected), "{common}");
        }
    }
    let behind = "proxy_from = [\"uid:0\"]\nallow = [\"10.0.0.0/8\"]\n";
    let common = "allow = [\"10.0.0.0/8\"]\n";
    for good in [
        table(unix, behind),
        table(unix, "allow = [\"10.0.0.0/8\", \"uid:0\"]\n"),
        table("[::]:1", common),
        table("[::]:1", "allow = [\"::/0\"]\n"),
        table(v4, "allow = [\"::ffff:10.0.0.0/104\"]\n"),
        table("systemd:a", "allow = [\"uid:0\"]\n"),
        format!("{common}{}", table(unix, "allow = \"off\"\n")),
    ] {
        Config::of(good).settings();
    }
}

/// So that two listeners can be compared.
#[test]
fn what_is_printed_of_a_listener_is_what_holds_there() {
    let text = "idle_timeout = \"10m\"\nunix_mode = \"0600\"\n\
                [[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\nframing = \"nul\"\nmax_connections = 5\n\
                [[listener]]\nname = \"b\"\naddress = \"unix:/tmp/a.sock\"\nidle_timeout = \"off\"\n";
    let config = Config::of(text);
    let told = config.with(&[], &["--frame-timeout", "5s"]).expect("good");
    let told = told.effective();
    let tables: Vec<&str> = told.split("[[listener]]").skip(1).collect();
    let path = config.path.display();
    let has = |table: &str, line: &str| {
        assert!(table.lines().any(|it| it == line), "{line}\nin{table}");
    };
    for table in &tables {
        has(table, "# frame_timeout = \"5s\"  # --frame-timeout");
        has(table, "# max_message = \"64KiB\"  # default");
    }
    let [a, b] = tables[..] else { panic!("{told}") };
    has(a, &format!("framing = \"nul\"  # {path}:6"));
    has(a, &format!("# idle_timeout = \"10m\"  # {path}:1"));
    has(b, "# framing = \"lines\"  # default");
    has(b, &format!("idle_timeout = \"off\"  # {path}:11"));
    has(b, &format!("# unix_mode = \"0600\"  # {path}:2"));
    assert!(
        !a.contains("unix_mode") && !b.contains("max_connections"),
        "{told}"
    );
}

#[test]
#[cfg(feature = "tls")]
fn what_is_printed_of_tls_stands_with_the_listeners_that_have_it() {
    let text = "tls_cert = \"a.pem\"\ntls_key = \"a.key\"\ntls_client_ca = \"ca.pem\"\ntls_client_auth = \"optional\"\n\
                [[listener]]\naddress = \"tls://127.0.0.1:1\"\n\
                [[listener]]\naddress = \"tls://127.0.0.1:2\"\ntls_cert = \"b.pem\"\ntls_client_ca = \"off\"\n\
                [[listener]]\naddress = \"127.0.0.1:3\"\n";
    let told = Config::of(text).settings().effective();
    let tables: Vec<&str> = told.split("[[listener]]").skip(1).collect();
    let keys = |table: &str| -> Vec<String> {
        let lines = table.lines().filter_map(|line| line.split(" = ").next());
        let tls = lines.filter(|key| key.contains("tls_"));
        tls.map(str::to_owned).collect()
    };
    let [all, own, plain] = tables[..] else {
        panic!("{told}")
    };
    assert_eq!(
        keys(all),
        [
            "# tls_cert",
            "# tls_key",
            "# tls_client_ca",
            "# tls_client_auth"
        ]
    );
    assert_eq!(keys(own), ["tls_cert", "tls_client_ca"]);
    assert!(keys(plain).is_empty(), "{plain}");
}

/// Kubernetes sets DRAINLINE_PORT and the like for a Service named drainline, and
/// DRAINLINE_X_PORT for one named drainline-x.
#[test]
fn no_variable_is_one_that_kubernetes_or_the_program_itself_sets() {
    let mut seen = Vec::new();
    for flag in of_settings() {
        let variable = flag.variable();
        let rest = variable.strip_prefix("DRAINLINE_").expect("a prefix");
        for of_service in ["_PORT", "_SERVICE_HOST", "_TCP", "_ADDR", "_PROTO"] {
            assert!(!format!("_{rest}").ends_with(of_service), "{variable}");
        }
        assert!(!rest.contains("SERVICE_PORT"), "{variable}");
        for own in [
            "SIGNAL_STACKS",
            "FROM_SHELL",
            "CONFIG_ON_STDIN",
            "LONG",
            "REQUIRE_CLIENTS",
        ] {
            assert_ne!(rest, own);
        }
        assert!(!rest.starts_with("VARIABLE_"), "{variable}");
        seen.push(variable);
    }
    let others = [
        ("DRAINLINE_PORT", "tcp://10.0.0.1:5140"),
        ("DRAINLINE_SERVICE_HOST", "10.0.0.1"),
        ("DRAINLINE_SEND_TIMOUT", "5x"),
        ("DRAINLINE_SINK", ""),
        ("DRAINLINE_CHECK", "yes"),
    ];
    let settings = parsed(["drainline"].into_iter(), &others).expect("ignored");
    assert_eq!(values(settings), values(super::settings(&[])));
}

#[test]
fn a_flag_stands_above_a_variable_and_a_variable_above_the_file() {
    let file = Config::of("send_timeout = \"40s\"\nbacklog = 7\nmax_message = 4096");
    let variables = [
        ("DRAINLINE_SEND_TIMEOUT", "50s"),
        ("DRAINLINE_BACKLOG", "8"),
    ];
    let settings = file
        .with(&variables, &["--send-timeout", "60s"])
        .expect("good");
    assert_eq!(settings.config.send_timeout.as_secs(), 60);
    assert_eq!(settings.config.backlog, Some(8));
    assert_eq!(settings.max_message, 4096);
    let told = settings.effective();
    let path = file.path.display();
    for line in [
        "send_timeout = \"1m\"  # --send-timeout",
        "backlog = 8  # DRAINLINE_BACKLOG",
        &format!("max_message = \"4KiB\"  # {path}:3"),
        "buffer_bytes = \"64MiB\"  # default",
    ] {
        assert!(told.lines().any(|it| it == line), "{line}: {told}");
    }
}

/// A default that is typed is a value like any other.
#[test]
fn a_default_that_is_given_stands_above_another_value_of_the_file() {
    let file = Config::of("send_timeout = \"5s\"\nbusy_poll = \"off\"");
    let variables = [("DRAINLINE_BUSY_POLL", "auto")];
    let settings = file.with(&variables, &["--send-timeout", "30s"]);
    let settings = settings.expect("good");
    assert_eq!(settings.config.send_timeout.as_secs(), 30);
    assert!(settings.config.busy_poll);
}

/// A value that is overridden is read all the same: the file is right or wrong as a whole.
#[test]
fn a_wrong_value_of_the_file_is_wrong_under_a_flag_too() {
    let file = Config::of("send_timeout = \"5x\"");
    let error = file.with(&[], &["--send-timeout", "5s"]).map(drop);
    assert_eq!(error.map_err(|error| error.code), Err(78));
}

#[test]
fn a_file_is_read_however_its_lines_end_and_with_nothing_in_it() {
    let default = values(settings(&[]));
    for empty in ["", "\n\n", "\u{feff}", "# nothing", "\r\n"] {
        assert_eq!(values(Config::of(empty).settings()), default, "{empty:?}");
    }
    let text = "\u{feff}# ends as elsewhere\r\nbacklog = 0b111\r\nsend_timeout = '''\r\n5s'''\r\n\t[[listener]]\r\naddress='127.0.0.1:0'\r\n";
    let settings = Config::of(text).settings();
    assert_eq!(settings.config.backlog, Some(7));
    assert_eq!(settings.config.send_timeout.as_secs(), 5);
}

#[test]
fn listeners_add_up_within_the_file_and_give_way_to_those_of_flags_and_variables() {
    let listen = |settings: &Settings| -> Vec<(Option<String>, String)> {
        let all = settings.all_listeners().into_iter();
        all.map(|it| (it.name, it.address.to_string())).collect()
    };
    let named = |name: &str, address: &str| (Some(name.to_owned()), address.to_owned());
    let plain = |address: &str| (None, address.to_owned());
    let table = "[[listener]]\nname = 'syslog'\naddress = 'tcp://127.0.0.1:514'\n";
    let alone = Config::of(table);
    assert_eq!(
        listen(&alone.settings()),
        [named("syslog", "127.0.0.1:514")]
    );
    let both = Config::of(format!("listen = '127.0.0.1:1'\n{table}"));
    let expected = [plain("127.0.0.1:1"), named("syslog", "127.0.0.1:514")];
    assert_eq!(listen(&both.settings()), expected);
    for (variables, words) in [
        (&[("DRAINLINE_LISTEN", "127.0.0.1:7")][..], &[][..]),
        (&[], &["--listen", "127.0.0.1:7"]),
    ] {
        for file in [&alone, &both] {
            let settings = file.with(variables, words).expect("good");
            assert_eq!(listen(&settings), [plain("127.0.0.1:7")]);
        }
    }
    let default: ListenUrl = settings(&[]).all_listeners().remove(0).address;
    assert_eq!(default.to_string(), "127.0.0.1:5140");
}

#[test]
fn an_output_is_set_by_its_table_as_by_its_url() {
    let table =
        "[[output]]\nwindow = 7\nframing = 'nul'\nsink = 'probe://h'\nname = 'a'\npassword = 'b'";
    let url = "sink = 'probe://h?window=7&framing=nul&name=a&password=b'";
    let user_info = "sink = 'probe://:b@h?window=7&framing=nul&name=a'";
    let settings = Config::of(table).settings();
    for same in [url, user_info] {
        let same = Config::of(same).settings();
        assert_eq!(values(settings.clone()), values(same));
    }
    let file = Config::of(table);
    let typed = file.with(&[], &["--output-framing", "octet-counted"]);
    let told = typed.expect("good").effective();
    let own = format!("\nframing = \"nul\"  # {}:3\n", file.path.display());
    for line in [
        "output_framing = \"octet-counted\"  # --output-framing\n",
        &own,
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

/// What `drainline check` prints, and what `drainline config` prints.
#[test]
fn what_is_printed_is_a_file_of_the_same_settings() {
    let table = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:3\"\n";
    let with_tables = Config::of(table).settings();
    for given in [settings(&[]), settings(ALL), with_tables] {
        let told = given.effective();
        let again = Config::of(&told).settings();
        assert_eq!(values(given), values(again), "{told}");
    }
    let told = settings(ALL).effective();
    for flag in of_settings() {
        let begin = format!("{} = ", flag.key());
        assert!(told.lines().any(|line| line.starts_with(&begin)), "{begin}");
    }
    let text = template();
    let default = settings(&[]);
    assert_eq!(
        values(Config::of(&text).settings()),
        values(default.clone())
    );
    let uncommented = uncommented(&text);
    assert_eq!(
        values(Config::of(&uncommented).settings()),
        values(default),
        "{uncommented}"
    );
}

/// Whatever is in the file: it is settings, or one line with a place.
#[test]
fn any_text_is_read_or_refused_in_one_line() {
    // What looks like a name would be resolved.
    let settings = uncommented(&template()).replace("\nlisten = ", "\n#");
    let table = "\n[[listener]]\nname = 'a'\naddress = '127.0.0.1:0'\n[[output]]\n";
    const PIECES: [&str; 26] = [
        "\n", "=", "[", "]", "[[", "]]", "\"", "'", "'''", "{", "}", ",", ".", "#", "-1", "0x7",
        "1e9", "true", "\0", "\u{feff}", "\u{e9}", "\\", "\\u", "\r", "off", "",
    ];
    let change = (any::<Index>(), 0..40_usize, select(&PIECES[..]));
    let changes = proptest::collection::vec(change, 1..4);
    let config = Config::of("");
    let place = format!("drainline: {}:", config.path.display());
    let once = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(once, |(changes in changes)| {
        let mut text = settings.clone();
        for (at, length, piece) in changes {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            let begin = at.index(places.len());
            let end = (begin + length).min(places.len() - 1);
            text.replace_range(places[begin]..places[end], piece);
        }
        text += table;
        fs::write(&config.path, &text).expect("a file");
        if let Err(error) = config.with(&[], &[]) {
            prop_assert_eq!(error.code, 78);
            prop_assert!(error.line.starts_with(&place), "{}", error);
            prop_assert!(!error.line.contains(char::is_control), "{:?}", error);
        }
    });
}

/// With every line a setting that can be one.
fn uncommented(template: &str) -> String {
    let is_setting = |line: &str| {
        let line = line.strip_prefix('#');
        line.is_some_and(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let lines = template.lines().map(|line| match is_setting(line) {
        true => &line[1..],
        false => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_printed_file_has_every_row_with_its_default_and_what_it_does() {
    let text = template();
    let flat = |text: &str| {
        let words = text
            .lines()
            .flat_map(|line| line.trim_start_matches('#').split_whitespace());
        words.collect::<Vec<_>>().join(" ")
    };
    let told = flat(&text);
    for line in text.lines() {
        assert!(line.is_empty() || line.starts_with('#'), "{line}");
        assert!(
            line.chars().count() <= 96 || !line.starts_with("# "),
            "{line}"
        );
    }
    for flag in of_settings() {
        let setting = flag.value().expect("a value");
        let line = match setting.print_in_file(&Settings::default()) {
            Some(default) => format!("#{} = {default}", flag.key()),
            None => format!("# {} = ", flag.key()),
        };
        // A row without a default is written alike in a table.
        let in_listeners = listener_rows().into_iter().map(|row| row.key());
        let in_outputs = SCHEMES.iter().flat_map(Entry::rows).map(|row| row.key());
        let mut in_tables = in_listeners.chain(in_outputs).collect::<Vec<_>>();
        in_tables.retain(|key| line.starts_with("# ") && *key == flag.key());
        assert_eq!(
            text.lines().filter(|it| it.starts_with(&line)).count(),
            1 + in_tables.len(),
            "{line}"
        );
        assert!(
            told.contains(&flat(&format!("Expects {}.", setting.expected()))),
            "{line}"
        );
        assert!(
            !told.contains(&format!("{} ", flag.long())) || flag.name == "send-timeout",
            "{line}"
        );
    }
    for line in [
        "# idle_timeout = \"off\"",
        "# framing = \"lines\"",
        "# max_connections = N",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}");
    }
    for row in listener_rows() {
        let line = format!("# {} = ", row.key());
        assert!(text.lines().any(|it| it.starts_with(&line)), "{line}");
        let expected = row.value().expect("a value").expected();
        assert!(
            told.contains(&flat(&format!("Expects {expected}."))),
            "{line}"
        );
    }
}
