//! What a configuration file refuses, and in which words.

use super::file::Config;

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_place_and_what_would_work() {
    let a_time = "a duration from 1ms to 24h, such as 5s";
    for (text, error) in [
        // Keys.
        (
            "send_timout = \"5s\"",
            "1:1: unknown key 'send_timout': did you mean send_timeout?",
        ),
        (
            "\n\n  send-timeout = \"5s\"",
            "3:3: unknown key 'send-timeout': did you mean send_timeout?",
        ),
        (
            "\"Max Message\" = 5",
            "1:1: unknown key 'Max Message': did you mean max_message?",
        ),
        (
            "zzz = 5",
            "1:1: unknown key 'zzz': drainline config prints every key",
        ),
        (
            "config = \"other.toml\"",
            "1:1: unknown key 'config': drainline config prints every key",
        ),
        (
            "check = true",
            "1:1: unknown key 'check': drainline config prints every key",
        ),
        (
            "address = \"127.0.0.1:1\"",
            "1:1: unknown key 'address': did you mean address in a [[listener]]?",
        ),
        (
            "[server]\nbacklog = 5",
            "1:2: unknown key 'server': drainline config prints every key",
        ),
        (
            "zzz.backlog = 5",
            "1:1: unknown key 'zzz': drainline config prints every key",
        ),
        (
            "[[listner]]\naddress = \"127.0.0.1:1\"",
            "1:3: unknown key 'listner': did you mean [[listener]]?",
        ),
        (
            "[[outputs]]\nsink = \"null\"",
            "1:3: unknown key 'outputs': did you mean [[output]]?",
        ),
        (
            "onfig = 1",
            "1:1: unknown key 'onfig': drainline config prints every key",
        ),
        // Types.
        (
            "backlog = \"7\"",
            "1:11: invalid value \"7\" for backlog: expected auto or a number from 1 to 65535, the number without quotes",
        ),
        (
            "backlog = 7.5",
            "1:11: invalid value 7.5 for backlog: expected auto or a number from 1 to 65535",
        ),
        (
            "backlog = [7]",
            "1:11: invalid value [7] for backlog: expected auto or a number from 1 to 65535",
        ),
        (
            "backlog = 0x1_0000",
            "1:11: invalid value 65536 for backlog: expected auto or a number from 1 to 65535",
        ),
        (
            "backlog = -5",
            "1:11: invalid value -5 for backlog: expected auto or a number from 1 to 65535",
        ),
        (
            "backlog = 99999999999999999999999999999999999999999",
            "1:11: invalid value 99999999999999999999999999999999999999999 for backlog: expected auto or a number from 1 to 65535",
        ),
        (
            "send_timeout = 5",
            &format!("1:16: invalid value 5 for send_timeout: expected {a_time}, in quotes"),
        ),
        (
            "send_timeout = {a = 1}",
            &format!("1:16: invalid value {{...}} for send_timeout: expected {a_time}, in quotes"),
        ),
        (
            "send_timeout = 1979-05-27",
            &format!(
                "1:16: invalid value 1979-05-27 for send_timeout: expected {a_time}, in quotes"
            ),
        ),
        (
            "send_timeout = \"\"",
            &format!("1:16: missing value for send_timeout: expected {a_time}"),
        ),
        (
            "busy_poll = false",
            "1:13: invalid value false for busy_poll: expected auto or off, in quotes",
        ),
        (
            "keepalive = false",
            "1:13: invalid value false for keepalive: expected off or idle time, interval and probes such as 60s,10s,6 (times from 1s to 32767s in whole seconds, 1 to 127 probes; the last two may be left out), in quotes",
        ),
        (
            "max_connections = true",
            "1:19: invalid value true for max_connections: expected auto or a number from 1 to 1000000, a word in quotes",
        ),
        (
            "buffer_bytes = 1.5",
            "1:16: invalid value 1.5 for buffer_bytes: expected a size from 4KiB to 1TiB, such as 64MiB, in quotes",
        ),
        (
            "buffer_bytes = 15",
            "1:16: invalid value 15 for buffer_bytes: expected a size from 4KiB to 1TiB, such as 64MiB",
        ),
        // Values.
        (
            "é = 1",
            "1:1: invalid unquoted key, expected letters, numbers, `-`, `_`",
        ),
        (
            "sink = \"file:/tmp/é\" \nwhen_full = \"wait\"",
            "2:13: invalid value 'wait' for when_full: use block instead",
        ),
        (
            "\"\\u0073ink\" = \"é\"",
            "1:15: invalid value 'é' for sink: expected stdout, file:PATH, file:///PATH",
        ),
        (
            "per_ip_exempt = [\"10.0.0.0/8\",\n  \"gateway\"]",
            "2:3: invalid value 'gateway' for per_ip_exempt: expected off or networks such as 10.0.0.0/8 or fd00::/8, with commas",
        ),
        (
            "per_ip_exempt = []",
            "1:17: missing value for per_ip_exempt: expected off or networks such as 10.0.0.0/8 or fd00::/8, with commas",
        ),
        (
            "per_ip_exempt = [10]",
            "1:18: invalid value 10 for per_ip_exempt: expected off or networks such as 10.0.0.0/8 or fd00::/8, with commas, in quotes",
        ),
        // Given twice.
        ("backlog = 7\nbacklog = 7", "2:1: duplicate key"),
        // Tables.
        (
            "[listener]\naddress = \"127.0.0.1:1\"",
            "1:2: expected [[listener]]",
        ),
        (
            "listener = [\"127.0.0.1:1\"]",
            "1:13: expected [[listener]]",
        ),
        ("output = \"stdout\"", "1:1: expected [[output]]"),
        (
            "[[listener]]\nname = \"a\"",
            "1:1: expected an address in every [[listener]]",
        ),
        (
            "[[listener]]\nadress = \"127.0.0.1:1\"",
            "2:1: unknown key 'adress' in [[listener]]: did you mean address?",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:1\"\nsend_timeout = \"5s\"",
            "3:1: unknown key 'send_timeout' in [[listener]]: expected it above the first table",
        ),
        (
            "[[listener]]\nzzz = 1",
            "2:1: unknown key 'zzz' in [[listener]]: expected name, address, framing, ",
        ),
        (
            "[[output]]\nframing = \"nul\"",
            "1:1: expected a sink in every [[output]]",
        ),
        (
            "[[output]]\noutput_framing = \"nul\"\nsink = \"null\"",
            "2:1: unknown key 'output_framing' in [[output]]: did you mean framing?",
        ),
        (
            "[[output]]\nsink = \"null\"\nsend_timeout = \"5s\"",
            "3:1: unknown key 'send_timeout' in [[output]]: expected it above the first table",
        ),
        (
            "[[output]]\nsink = \"null\"\nmax_len = 5",
            "3:1: unknown key 'max_len' in [[output]]: a sink such as probe://HOST has it",
        ),
        (
            "[[output]]\nsink = \"null\"\nfram = 5",
            "3:1: unknown key 'fram' in [[output]]: did you mean framing?",
        ),
        (
            "[[output]]\nframing = \"nul\"\nsink = \"stdout?framing=lines\"",
            "2:1: framing is given twice: expected it here or in the URL",
        ),
        (
            "[[output]]\nsink = \"stdout\"\nrequired = \"false\"",
            "3:12: invalid value \"false\" for required: expected true or false, without quotes",
        ),
        (
            "[[output]]\nsink = \"stdout?window=5\"",
            "2:8: invalid value 'window' for sink: expected an option of stdout: name, required, framing, ",
        ),
        (
            "[[output]]\nsink = \"probe://h?window=0\"",
            "2:8: invalid value 'window=0' for sink: expected a number from 1 to 1000",
        ),
        (
            "[[output]]\nsink = \"probe://h\"\nwindow = 0",
            "3:10: invalid value 0 for window: expected a number from 1 to 1000",
        ),
        (
            "[[output]]\nsink = \"probe://h\"\npassword = 12345",
            "3:12: invalid value *** for password: expected text, which is shown nowhere, in quotes",
        ),
        (
            "[[output]]\nsink = \"probe://h\"\npassword = hunter2",
            "3:12: invalid value *** for password: expected text, which is shown nowhere, in quotes",
        ),
        (
            "[[output]]\nsink = \"file:/x\"\nfsync = batch",
            "3:9: invalid value batch for fsync: expected off, batch or a duration from ",
        ),
        // Another scheme has a row of the name, whose range is another.
        (
            "[[output]]\nsink = \"tcp://a:1\" # b\nconnect_timeout = 10s",
            "3:19: invalid value 10s for connect_timeout: expected a duration from 1ms to 24h, such as 10s, in quotes",
        ),
        #[cfg(feature = "redis")]
        (
            "[[output]]\nsink = \"tcp://a:1\"\n[[output]]\nconnect_timeout = 10s\nsink = 'redis://a/s?x=y'\n[[listener]]",
            "4:19: invalid value 10s for connect_timeout: expected a duration from 100ms to 1h, such as 5s, in quotes",
        ),
        (
            "[[output]]\nsink = probe://:hunter2@h",
            "2:8: invalid value probe://***@h for sink: expected stdout, ",
        ),
        (
            "[[output]]\nsink = \"null\"\nrequired = no",
            "3:12: invalid value no for required: expected true or false",
        ),
        (
            "[[output]]\nsink = \"probe://h\"\npassword = \"hunter2\"\npassword_file = \"/x\"",
            "4:17: invalid value '/x' for password_file: expected one of password, password_file or password_env",
        ),
        #[cfg(not(feature = "kafka"))]
        (
            "[[output]]\nsink = \"kafka://h/t\"",
            "2:8: invalid value 'kafka://h/t' for sink: expected a drainline with the feature kafka",
        ),
        (
            "[[listener]]\naddress = \"udp://127.0.0.1:1\"",
            "2:11: invalid value 'udp://127.0.0.1:1' for address: expected an address such as 127.0.0.1:5140, [::1]:5140 or localhost:5140, or a URL: tcp://ADDRESS, unix:PATH",
        ),
        // Contradictions.
        (
            "send_timeout = \"2s\"\n\npause_after = \"0.1m\"",
            "3:15: invalid value '0.1m' for pause_after: expected less than send_timeout (2s, 1), after which a waiting connection is ended, so that no pause would begin",
        ),
        (
            "pause_after = \"30s\"",
            "1:15: invalid value '30s' for pause_after: expected less than send_timeout (30s), after which a waiting connection is ended, so that no pause would begin",
        ),
        (
            "listen = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:1\"]",
            "1:10: invalid value '127.0.0.1:1' for listen: expected each address once, and no address beside the wildcard address of its family and port",
        ),
        (
            "listen = \"0.0.0.0:1\"\n[[listener]]\naddress = \"127.0.0.1:1\"",
            "3:11: invalid value '127.0.0.1:1' for address: expected each address once, and no address beside the wildcard address of its family and port",
        ),
        (
            "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:2\"",
            "5:8: invalid value 'a' for name: expected a name that no other [[listener]] has",
        ),
        (
            "buffer_bytes = \"1MiB\"\n[[listener]]\naddress = \"127.0.0.1:1\"\nmax_message = \"2MiB\"",
            "4:15: invalid value '2MiB' for max_message: expected at least ",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:1\"\nmax_connections = 2_000",
            "3:19: invalid value '2000' for max_connections: expected at most max_connections (auto: 1024), which all listeners share",
        ),
        (
            "max_connections = 10\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\nmax_connections = 20",
            "5:19: invalid value '20' for max_connections: expected at most max_connections (10, 1), which all listeners share",
        ),
        // The second of two that are called alike, and one whose address is not known yet.
        (
            "[[listener]]\naddress = \"127.0.0.1:0\"\nmax_connections = 2\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\nmax_connections = 2_000",
            "6:19: invalid value '2000' for max_connections: expected at most max_connections (auto: 1024), which all listeners share",
        ),
        (
            "max_connections = 100\n[[listener]]\naddress = \"systemd:foo\"\nmax_connections = 5_000",
            "4:19: invalid value '5000' for max_connections: expected at most max_connections (100, 1), which all listeners share",
        ),
        (
            "[[listener]]\naddress = \"systemd:foo\"\nunix_mode = \"0600\"",
            "3:13: invalid value '0600' for unix_mode: expected it only for the path of a Unix socket",
        ),
        (
            "[[listener]]\naddress = \"systemd:foo\"\nunix_owner = \"root\"",
            "3:14: invalid value 'root' for unix_owner: expected it only for the path of a Unix socket",
        ),
        (
            "[[listener]]\naddress = \"systemd:foo\"\nmax_message = \"64MiB\"",
            "3:15: invalid value '64MiB' for max_message: expected at least ",
        ),
        // Nobody's: a socket that is passed has a file already.
        (
            "listen = [\"systemd:a\", \"127.0.0.1:0\"]\nunix_mode = \"0600\"",
            "2:13: invalid value '0600' for unix_mode: expected a Unix socket beside it that drainline makes, ",
        ),
        (
            "unix_owner = \"root\"\n[[listener]]\naddress = \"127.0.0.1:0\"",
            "1:14: invalid value 'root' for unix_owner: expected a Unix socket beside it that drainline makes, ",
        ),
        (
            "sink = \"file:/tmp/x\"\nport_file = \"/tmp/x\"",
            "2:13: invalid value '/tmp/x' for port_file: expected a file other than that of sink, which it would replace",
        ),
        // No TOML, and no text.
        (
            "send_timeout = 5s",
            &format!("1:16: invalid value 5s for send_timeout: expected {a_time}, in quotes"),
        ),
        (
            "\u{feff}unix_mode = 0666 # everybody",
            "1:13: invalid value 0666 for unix_mode: expected permissions in octal, from 0000 to 0777, such as 0660, in quotes",
        ),
        (
            "[[listener]]\naddress = 127.0.0.1:514",
            "2:11: invalid value 127.0.0.1:514 for address: expected an address such as ",
        ),
        (
            "[[output]]\r\nsink = null\r\n",
            "2:8: invalid value null for sink: expected stdout, file:PATH, file:///PATH, null, ",
        ),
        (
            "backlog = 07",
            "1:11: invalid value 07 for backlog: expected auto or a number from 1 to 65535, without leading zeros",
        ),
        (
            "backlog = 7 8",
            "1:11: invalid value 7 8 for backlog: expected auto or a number from 1 to 65535, a word in quotes",
        ),
        ("name = null", "1:8: "),
        ("[other]\nsink = null", "2:8: "),
        ("sink = \"null", "1:13: invalid basic string"),
        ("sink =", "1:7: string values must be quoted"),
        (
            "\u{feff}backlog = 7\r\nzzz = 1\r\n",
            "2:1: unknown key 'zzz'",
        ),
        ("backlog = 7\n\u{feff}backlog = 7", "2:1: "),
        ("\u{feff}zzz = 1", "1:1: unknown key 'zzz'"),
        ("backlog = 7\n\0", "2:2: key with no value"),
    ] {
        let told = Config::of(text).refused();
        assert!(told.starts_with(error), "{text:?}: {told}\nnot {error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    for (bytes, place) in [
        (
            &b"backlog = 7\nsink = \"\xc3\xa9\xff\""[..],
            "2:10: expected UTF-8",
        ),
        (b"\xff\xfeb\0a\0", "1:1: expected UTF-8"),
        (b"# caf\xe9", "1:6: expected UTF-8"),
    ] {
        assert_eq!(Config::of(bytes).refused(), place);
    }
}
