//! Configuration: the layers, and what is said about mistakes.

mod support;

use std::net::TcpListener;

use support::{Server, Temporary, check, command, run};

#[test]
fn defaults_are_the_documented_ones_and_read_back() {
    let (status, text, errors) = check(&[], &[]);
    assert_eq!((status, &*errors), (Some(0), ""));
    for line in [
        "listen = \"127.0.0.1:8080\"",
        "[source]",
        "kind = \"replay\"",
        "stale_after = 10.0",
        "[ws]",
        "broadcast_interval = 1.0",
        "heartbeat_interval = 30.0",
        "heartbeat_timeout = 10.0",
        "queue_size = 50",
        "write_buffer = \"64KiB\"",
        "max_message_size = \"64KiB\"",
        "max_body_size = \"16MiB\"",
        "handshake_timeout = 10.0",
        "drain_timeout = 5.0",
        "log = \"info\"",
    ] {
        assert!(text.lines().any(|other| other == line), "no line {line} in\n{text}");
    }
    let file = Temporary::new("defaults.toml", &text);
    assert_eq!(check(&["--config", file.path()], &[]), (Some(0), text, String::new()));
}

#[test]
fn command_line_over_environment_over_file_over_default() {
    let file = Temporary::new(
        "layers.toml",
        "workers = 3\n[ws]\nqueue_size = 7\nbroadcast_interval = 2\nheartbeat_timeout = 0.5\n",
    );
    let environment = [("WS_QUEUE_SIZE", "8"), ("WS_BROADCAST_INTERVAL", "0.25"), ("TICKCAST_CONFIG", file.path())];
    let (status, text, errors) = check(&["--broadcast-interval", "125ms", "--write-buffer", "1MiB"], &environment);
    assert_eq!((status, &*errors), (Some(0), ""));
    for line in [
        "workers = 3",
        "queue_size = 8",
        "broadcast_interval = 0.125",
        "heartbeat_timeout = 0.5",
        "write_buffer = \"1MiB\"",
    ] {
        assert!(text.lines().any(|other| other == line), "no line {line} in\n{text}");
    }
    // The flag names another file than the environment.
    let other = Temporary::new("other.toml", "workers = 4");
    let (_, text, _) = check(&["--config", other.path()], &environment);
    assert!(text.contains("workers = 4") && text.contains("queue_size = 8"));
    let (_, text, _) = check(&["--heartbeat-interval", "2m", "--drain-timeout", "1.5s"], &[]);
    assert!(text.contains("heartbeat_interval = 120.0") && text.contains("drain_timeout = 1.5"));
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_place() {
    for (text, words) in [
        ("workers = 2\n[ws\n", vec!["line 2", "not valid TOML"]),
        ("[ws]\nqueue_sise = 3\n", vec!["line 2", "unknown key `ws.queue_sise`", "did you mean `ws.queue_size`?"]),
        (
            "[ws]\nfrobnicate = 3\n",
            vec!["line 2", "unknown key `ws.frobnicate`", "known keys: listen, reuse_port, source"],
        ),
        ("[frobnicate]\n", vec!["line 1", "unknown key `frobnicate`"]),
        ("[ws]\nheartbeat_interval = 0.01\n", vec!["= 0.01", "0, or seconds from 0.1 to 3600"]),
        ("queue_size = 3\n", vec!["line 1", "unknown key `queue_size`", "did you mean `ws.queue_size`?"]),
        (
            "[ws]\n\nqueue_size = \"many\"\n",
            vec!["line 3", "`ws.queue_size` = \"many\"", "a whole number from 1 to 65536"],
        ),
        ("[ws]\nqueue_size = 0\n", vec!["`ws.queue_size` = 0", "from 1 to 65536"]),
        ("[ws]\nqueue_size = 1.5\n", vec!["`ws.queue_size` = 1.5", "a whole number"]),
        ("[ws.queue_size]\na = 1\n", vec!["`ws.queue_size` = a TOML table", "a whole number"]),
        ("[ws]\nbroadcast_interval = \"1s\"\n", vec!["`ws.broadcast_interval` = \"1s\"", "seconds from 0 to 86400"]),
        ("[ws]\nbroadcast_interval = -1\n", vec!["= -1", "seconds from 0"]),
        ("[ws]\nheartbeat_timeout = nan\n", vec!["= nan", "seconds from"]),
        ("[ws]\nwrite_buffer = \"64 parsecs\"\n", vec!["\"64 parsecs\"", "\"64KiB\""]),
        ("source = \"kafka\"\n", vec!["`source` = \"kafka\"", "replay, replay:FILE, sim, stdin, none"]),
        ("listen = 8080\n", vec!["`listen` = 8080", "127.0.0.1:8080"]),
        ("[replay]\nloop = \"yes\"\n", vec!["`replay.loop` = \"yes\"", "true or false"]),
        ("log = \"loud\"\n", vec!["`log` = \"loud\"", "off, error, warn, info, debug, trace"]),
    ] {
        let file = Temporary::new("mistake.toml", text);
        let (status, stdout, stderr) = check(&["--config", file.path()], &[]);
        assert_eq!((status, &*stdout), (Some(2), ""), "{text}");
        assert!(stderr.contains(file.path()), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
    }
    let (status, _, stderr) = check(&["--config", "/nonexistent/x.toml"], &[]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("/nonexistent/x.toml") && stderr.contains("No such file"), "{stderr}");
}

#[test]
fn a_mistake_elsewhere_is_named_too() {
    for (arguments, environment, words) in [
        (vec![], ("WS_QUEUE_SIZE", "x"), vec!["WS_QUEUE_SIZE", "`ws.queue_size` = \"x\"", "a whole number"]),
        (vec![], ("WS_BROADCAST_INTERVAL", "250ms"), vec!["WS_BROADCAST_INTERVAL", "seconds from 0"]),
        (vec!["--workers", "0"], ("A", ""), vec!["flag --workers", "`workers` = \"0\"", "from 1 to 1024"]),
        (vec!["--drain-timeout", "5 fortnights"], ("A", ""), vec!["--drain-timeout", "250ms, 10s, 2m"]),
        (vec!["--listen", "nowhere"], ("A", ""), vec!["--listen", "127.0.0.1:8080"]),
        (vec!["--source", "replay:"], ("A", ""), vec!["--source", "replay:FILE"]),
        (vec!["--no-such-flag"], ("A", ""), vec!["--no-such-flag"]),
        (vec!["stray"], ("A", ""), vec!["stray"]),
    ] {
        let (status, stdout, stderr) = check(&arguments, &[environment]);
        assert_eq!((status, &*stdout), (Some(2), ""), "{arguments:?} {environment:?}");
        for word in words {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
    }
}

#[test]
fn what_cannot_be_started_is_told_clearly() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let (status, _, stderr) = run(command(&["--listen", &address, "--source", "none"]));
    assert_eq!(status, Some(1));
    assert!(stderr.contains(&address) && stderr.contains("another program listens there"), "{stderr}");
    let (status, _, stderr) = run(command(&["--source", "replay:/nonexistent/capture.zst"]));
    assert_eq!(status, Some(2));
    assert!(stderr.contains("/nonexistent/capture.zst") && stderr.contains("No such file"), "{stderr}");
}

#[test]
fn help_names_every_key_with_its_default() {
    let (status, stdout, _) = run(command(&["--help"]));
    assert_eq!(status, Some(0));
    for key in tickcast::config::Key::all() {
        assert!(stdout.contains(&format!("--{}", key.flag)) && stdout.contains(key.env), "{} in\n{stdout}", key.flag);
    }
    let (status, stdout, _) = run(command(&["--version"]));
    assert_eq!((status, stdout), (Some(0), format!("tickcast {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_readme_has_every_key_with_its_default() {
    let readme = include_str!("../README.md");
    let defaults = tickcast::Config::default();
    for key in tickcast::config::Key::all() {
        let names = format!("| `{}` | `{}` | `--{}` |", key.file, key.env, key.flag);
        let row = readme.lines().find(|line| line.starts_with(&names)).unwrap_or_else(|| panic!("no row {names}"));
        let default = key.show(&defaults);
        assert!(
            key.file == "workers" || row.contains(&format!("| `{}` |", default.trim_matches('"'))),
            "{row}: {default}"
        );
    }
}

#[test]
fn serve_is_the_default_and_logs_can_be_json() {
    let mut server = Server::start(&["--source", "none", "--log", "debug"]);
    drop(support::client::Client::connect(server.address, "market"));
    let line = server.wait_for_line("client disconnected");
    assert!(line.contains("reason=\"gone\""), "{line}");
    let mut json = command(&["serve", "--listen", "127.0.0.1:0", "--source", "none", "--log-format", "json"]);
    json.stdout(std::process::Stdio::null());
    let mut child = json.spawn().expect("the binary starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("piped")));
    let first: serde_json::Value = serde_json::from_str(&lines.next().expect("a line").expect("UTF-8")).expect("JSON");
    assert_eq!((&first["source"], &first["channels"]), (&"none".into(), &serde_json::json!(["market"])));
    let killed = std::process::Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill starts").success());
    for line in lines {
        let line = line.expect("UTF-8");
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "not JSON: {line}");
    }
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}
