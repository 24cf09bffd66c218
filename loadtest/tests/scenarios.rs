//! Every scenario against a real server, its publisher included, and every form of the report.

mod support;

use std::net::SocketAddr;

use serde_json::Value;
use support::{only, report, run, scratch, text};
use tickcast::fanout::Hub;
use tickcast::source::SourceKind;
use tickcast::{Config, Server};

/// A server in this process, for as long as the test runs.
struct Running {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn server() -> Running {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut config = Config { source: SourceKind::None, workers: 2, ..Config::default() };
    config.listen.set_port(0);
    let hub = Hub::new(config.hub());
    let server = runtime.block_on(async { Server::bind(config, hub.clone()) }).expect("a port");
    let address = server.local_addr().expect("an address");
    runtime.spawn(server.run(std::future::pending::<()>()));
    Running { address, _runtime: runtime }
}

/// Runs a scenario with 40 clients and 100 messages a second.
fn play(scenario: &str, more: &[&str]) -> Value {
    let server = server();
    let (socket, publish) =
        (format!("ws://{}/ws/bench", server.address), format!("http://{}/publish/bench", server.address));
    let fixed = [
        "--scenario",
        scenario,
        "--url",
        &socket,
        "--publish-url",
        &publish,
        "--connections",
        "40",
        "--publish-rate",
        "100",
        "--payload",
        "256",
        "--ramp",
        "100ms",
        "--warmup",
        "200ms",
    ];
    let (report, _) = report(scenario, &[&fixed, more].concat());
    let run = only(&report).clone();
    assert_eq!(run["connections"]["opened"].as_u64().map(|opened| opened >= 40), Some(true), "{run}");
    assert_eq!(run["connections"]["connect_errors"], 0, "{run}");
    assert_eq!(run["connections"]["disconnects"], 0, "{run}");
    assert_eq!(run["sequence"]["repeats"], 0, "{run}");
    assert_eq!(run["sequence"]["disorder"], 0, "{run}");
    run
}

#[test]
fn steady_delivers_every_message_to_everybody() {
    let pid = std::process::id().to_string();
    let run = play("steady", &["--duration", "2s", "--server-pid", &pid, "--publish-format", "binary"]);
    assert_eq!(run["publisher"]["scheduled"], 200);
    assert_eq!(run["publisher"]["published"], 200);
    assert_eq!(run["traffic"]["expected"], 8_000);
    assert_eq!(run["traffic"]["messages"], 8_000);
    assert_eq!(run["traffic"]["binary"], 8_000);
    assert_eq!(run["traffic"]["payload_bytes"], 8_000 * 256);
    assert_eq!(run["traffic"]["wire_bytes"].as_u64().map(|bytes| bytes >= 8_000 * 260), Some(true));
    assert_eq!(run["sequence"]["holes"], 0);
    assert_eq!(run["latency"]["delivery_us"]["count"], 8_000);
    assert_eq!(run["latency"]["uncorrected_us"]["count"], 8_000);
    assert_eq!(run["spread_us"]["count"], 200);
    let server = &run["server"];
    assert!(server["cpu_us_per_message"].as_f64().expect("a number") > 0.0, "{server}");
    assert!(server["rss_max_bytes"].as_u64().expect("a number") > 1 << 20, "{server}");
    assert!(server["descriptors"].as_u64().expect("a number") >= 40, "{server}");
    assert!(run["timeline"].as_array().is_some_and(|seconds| !seconds.is_empty()));
}

/// Ramps until a machine that is busy with other things lets the harness keep up.
fn ramp(more: &[&str]) -> Value {
    for _ in 0..10 {
        let run = play("ramp", more);
        let excused =
            |step: &Value| step["why"].as_str().is_some_and(|why| why.contains("the harness did not keep up"));
        if !run["outcome"]["steps"].as_array().is_some_and(|steps| steps.iter().any(excused)) {
            return run;
        }
    }
    panic!("the harness never kept up");
}

#[test]
fn ramp_finds_the_highest_rate_that_holds() {
    let run = ramp(&["--step-factor", "2", "--step-duration", "500ms", "--max-rate", "400", "--p99-limit", "5s"]);
    let steps = run["outcome"]["steps"].as_array().expect("steps");
    let rates: Vec<_> = steps.iter().filter_map(|step| step["rate"].as_f64()).collect();
    assert_eq!(rates, [100.0, 200.0, 400.0]);
    assert!(steps.iter().all(|step| step["held"] == true), "{run}");
    let knee = &run["outcome"]["knee"];
    assert_eq!((&knee["rate"], &knee["by_server"]), (&Value::from(400.0), &Value::from(false)));
    // The figures of the run are those of the knee alone.
    assert_eq!(run["traffic"]["messages"], 200 * 40);
    assert_eq!(run["publisher"]["published"], 200);
}

#[test]
fn ramp_ends_where_too_little_arrives() {
    // Nobody can do this: the limit is crossed by the first message.
    let run = ramp(&["--step-duration", "500ms", "--p99-limit", "1us"]);
    assert_eq!(run["outcome"]["knee"], Value::Null);
    assert_eq!(run["outcome"]["steps"][0]["why"], "p99 over the limit");
    assert_eq!(run["verdict"], "invalid");
}

#[test]
fn churn_loses_nothing_on_the_way_out_and_in() {
    let run = play("churn", &["--duration", "2s", "--churn-share", "50%"]);
    let churn = &run["outcome"]["churn"];
    let left = churn["left"].as_u64().expect("a number");
    assert!((35..=41).contains(&left), "half of 40 clients in each of 2 seconds: {churn}");
    assert_eq!(churn["returned"], left);
    assert_eq!(run["connections"]["opened"], 40 + left);
    assert_eq!(run["connections"]["open_at_end"], 40);
    assert_eq!(run["sequence"]["holes"], 0);
    assert_eq!(churn["first_message_us"]["count"], left);
}

#[test]
fn storm_has_everybody_back_with_data() {
    let run = play("storm", &["--duration", "3s", "--storms", "2"]);
    let storms = run["outcome"]["storms"].as_array().expect("storms");
    assert_eq!(storms.len(), 2);
    for storm in storms {
        assert_eq!((&storm["dropped"], &storm["recovered"]), (&Value::from(40), &Value::from(40)), "{storm}");
        let (half, all) = (storm["half_seconds"].as_f64().expect("some"), storm["all_seconds"].as_f64().expect("some"));
        assert!(half <= all && all < 1.0, "{storm}");
    }
    assert_eq!(run["connections"]["opened"], 120);
    assert_eq!(run["sequence"]["holes"], 0);
}

#[test]
fn slow_clients_are_stale_and_the_others_are_not() {
    // A quarter reads nothing at all for two seconds.
    let run = play("slow", &["--duration", "4s", "--slow-share", "25%", "--slow-rate", "0"]);
    let slow = &run["outcome"]["slow"];
    assert_eq!(slow["clients"], 10);
    let stale = slow["staleness_messages"]["max"].as_f64().expect("a number");
    assert!((150.0..=230.0).contains(&stale), "they read again after 200 messages: {slow}");
    assert!(slow["delivery_us"]["max"].as_f64().expect("a number") > 1.5e6, "{slow}");
    assert_eq!(slow["others_holes"], 0);
    assert!(slow["others_during_us"]["count"].as_u64().is_some_and(|count| count >= 30 * 190), "{slow}");
    // The figures of the run are those of the clients that read.
    assert_eq!(run["traffic"]["expected"], 30 * 400);
    assert_eq!(run["traffic"]["delivered"], 1.0);
}

#[test]
fn soak_is_told_in_stretches() {
    let run = play("soak", &["--duration", "3s", "--stretch", "1s"]);
    let stretches = run["outcome"]["soak"].as_array().expect("stretches");
    assert_eq!(stretches.len(), 3);
    assert!(stretches.iter().all(|stretch| stretch["connected"] == 40 && stretch["holes"] == 0), "{run}");
    assert_eq!(run["traffic"]["messages"], 12_000);
}

#[test]
fn a_connection_costs_less_than_a_kibibyte() {
    let server = server();
    let url = format!("ws://{}/ws/market", server.address);
    let arguments = ["--url", &url, "--connections", "4000", "--ramp", "1s", "--warmup", "0s", "--duration", "1s"];
    let (report, _) = report("memory", &arguments);
    let run = only(&report);
    assert_eq!(run["connections"]["opened"], 4_000, "{run}");
    let bytes = run["harness"]["bytes_per_connection"].as_f64().expect("a number");
    assert!(bytes > 100.0 && bytes <= 1_024.0, "{bytes} bytes a connection");
}

#[test]
fn several_source_addresses_are_used() {
    let (tell, told) = std::sync::mpsc::channel();
    let address = support::serve(move |_, stream| {
        tell.send(stream.peer_addr().expect("an address").ip().to_string()).expect("the test waits");
        support::wait_for_end(&stream);
    });
    let url = format!("ws://{address}/");
    let sources = ["--source-address", "127.0.0.2", "--source-address", "127.0.0.3"];
    let fixed =
        ["--url", &url, "--connections", "4", "--ramp", "0s", "--warmup", "0s", "--duration", "200ms", "--quiet"];
    run(&[&fixed[..], &sources].concat());
    let mut seen: Vec<_> = told.iter().take(4).collect();
    seen.sort();
    assert_eq!(seen, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
}

#[test]
fn a_file_describes_several_runs_and_reports_compare() {
    let server = server();
    let (file, json, html) = (scratch("runs.toml"), scratch("runs.json"), scratch("runs.html"));
    let address = server.address;
    let runs = format!(
        "url = \"ws://{address}/ws/bench\"\npublish_url = \"http://{address}/publish/bench\"\nramp = 0\nwarmup = \"100ms\"\n\
         duration = 0.5\npublish_rate = 50\nfail_if = [\"holes>0\", \"delivered<100%\"]\n\
         [[run]]\nname = \"few\"\nconnections = 5\n[[run]]\nname = \"more\"\nconnections = 20\npayload = \"4KiB\"\n"
    );
    std::fs::write(&file, &runs).expect("a file");
    let output = run(&["--file", &file, "--json", &json, "--html", &html, "--seq-field", "n"]);
    let said = text(&output.stdout);
    assert!(said.contains("few") && said.contains("more"), "{said}{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!(report["schema"], 1);
    let messages: Vec<_> = (0..2).map(|at| report["runs"][at]["traffic"]["messages"].as_u64()).collect();
    assert_eq!(messages, [Some(25 * 5), Some(25 * 20)], "{said}");
    assert_eq!(report["runs"][1]["config"]["payload"], "4KiB");
    assert_eq!(report["runs"][1]["config"]["seq-field"], "n", "a flag goes before the file");
    let page = std::fs::read_to_string(&html).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && !page.contains("src="), "{page}");
    let compared = run(&["compare", &format!("old={json},{json}"), &json]);
    let said = text(&compared.stdout);
    assert_eq!(compared.status.code(), Some(0), "{said}{}", text(&compared.stderr));
    assert!(said.contains("old") && said.contains("1.00x"), "{said}");

    for (wrong, reason) in [
        ("speed = 1\n", "line 1: unknown key `speed`; known keys: name, run, url, "),
        ("\nconnections = \"many\"\n", "line 2: `connections` = \"many\": expected a whole number"),
        ("url = \"ws://h/\"\n[[run]]\nramp = [1]\n", "line 3: `ramp` is of the wrong type"),
        ("url = \n", "line 1: not valid TOML"),
        ("[[run]]\nname = \"a\"\n[[run]]\nname = \"a\"\n", "two runs named \"a\""),
    ] {
        std::fs::write(&file, wrong).expect("a file");
        let output = run(&["--file", &file]);
        let said = text(&output.stderr);
        assert!(said.contains(reason) && said.contains("runs.toml"), "{said}");
        assert_eq!(output.status.code(), Some(2));
    }
}

/// Names of all fields in a report, but for those that users choose.
fn fields(value: &Value, names: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
        Value::Object(members) => {
            for (name, value) in members {
                names.insert(name.clone());
                if name != "config" {
                    fields(value, names);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_of_a_report_is_documented() {
    let documentation = include_str!("../REPORT.md");
    let mut names = std::collections::BTreeSet::new();
    let pid = std::process::id().to_string();
    let threshold = ["--duration", "1s", "--server-pid", &pid, "--fail-if", "holes>0"];
    fields(&play("soak", &[&threshold[..], &["--stretch", "1s"]].concat()), &mut names);
    fields(&play("storm", &threshold), &mut names);
    fields(&play("churn", &threshold), &mut names);
    fields(&play("slow", &threshold), &mut names);
    fields(&play("ramp", &["--step-duration", "200ms", "--max-rate", "150", "--server-pid", &pid]), &mut names);
    assert!(names.len() > 80, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !documentation.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "REPORT.md says nothing of {missing:?}");
}
