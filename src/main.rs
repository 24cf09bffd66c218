//! The server binary: arguments, configuration, and everything put together.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command};
use tickcast::cluster::Node;
use tickcast::config::{Config, Key, Layers, LogFormat, Publishing};
use tickcast::market::Publisher;
use tickcast::server::{Certificates, Listener, MARKET, Shutdown, source_trouble};
use tickcast::source::Feed;
use tickcast::{Hub, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[cfg(feature = "sampler")]
mod sampler;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What supervisors send, which start a server again; a person at the keyboard sends SIGINT.
const TERMINATE: &str = "SIGTERM";

/// Exit status for bad arguments or configuration.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    // clap prints its own errors and exits with 2.
    let matches = command().get_matches();
    let (name, arguments) = matches.subcommand().unwrap_or(("serve", &matches));
    let config = match configure(arguments) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIGURATION, &error),
    };
    if name == "check-config" {
        return match std::io::stdout().write_all(config.to_toml().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &anyhow::Error::from(error)),
        };
    }
    start_log(&config);
    // A descriptor a client: the usual soft limit of 1,024 is for programs that use `select`.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!("cannot raise the limit on open files: {error}");
    }
    #[cfg(feature = "sampler")]
    if let Err(error) = sampler::prepare() {
        return fail(1, &error);
    }
    let runtime = match start_runtime(&config) {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    let feed = {
        let _inside = runtime.enter();
        // An edge serves what origins publish.
        if config.cluster.is_edge() { Ok(None) } else { Feed::open(&config) }
    };
    let feed = match feed {
        Ok(feed) => feed,
        Err(error) => return fail(BAD_CONFIGURATION, &error.into()),
    };
    match runtime.block_on(run(config, feed)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(status: u8, error: &anyhow::Error) -> ExitCode {
    say(&format!("tickcast: {error:#}"));
    ExitCode::from(status)
}

/// A line on stderr; there is nobody to tell if that fails.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn command() -> Command {
    let serve = Command::new("serve").about("Serve (the default)").args(options());
    let check = Command::new("check-config").about("Print the effective configuration, or what is wrong with it");
    Command::new("tickcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Fans market data out to very many WebSocket clients, fresh")
        .args_conflicts_with_subcommands(true)
        .args(options())
        .subcommand(serve)
        .subcommand(check.args(options()))
}

fn options() -> Vec<Arg> {
    let default = Config::default();
    let file = Arg::new("config").long("config").value_name("FILE").help("TOML file [env: TICKCAST_CONFIG]");
    let keys = Key::all().map(|key| {
        let help = format!("{} [env: {}] [default: {}]", key.help, key.env, key.show(&default));
        Arg::new(key.flag).long(key.flag).value_name(key.unit).help(help).allow_hyphen_values(true)
    });
    std::iter::once(file).chain(keys).collect()
}

fn configure(arguments: &ArgMatches) -> anyhow::Result<Config> {
    let argument = |flag| arguments.get_one::<String>(flag).cloned();
    let variable = |name: &str| match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        // The error would show the value, which may be a secret.
        Err(std::env::VarError::NotUnicode(_)) => anyhow::bail!("environment variable {name} is not UTF-8"),
    };
    let mut layers = Layers { file: argument("config").map(PathBuf::from), ..Layers::default() };
    if layers.file.is_none() {
        layers.file = variable("TICKCAST_CONFIG")?.filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    for key in Key::all() {
        // Empty is as good as not there, but for what was to hold a secret.
        let value = variable(key.env)?.filter(|value| key.secret || !value.is_empty());
        layers.environment.extend(value.map(|value| (key.env.to_owned(), value)));
        layers.arguments.extend(argument(key.flag).map(|value| (key.flag, value)));
    }
    let config = Config::load(&layers)?;
    // Read once more when the server is set up; here it is a mistake in the configuration.
    Certificates::load(&config.tls)?;
    config.cluster.check().map_err(anyhow::Error::msg)?;
    Feed::check(&config)?;
    Ok(config)
}

fn start_log(config: &Config) {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(config.log);
    // What the client of NATS has to say, the cluster's own tasks say, and not at each of its attempts.
    let targets = Targets::new().with_default(config.log).with_target("async_nats", LevelFilter::OFF);
    // Nobody reads the log any more: no reason to stop serving.
    let log = log.log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with_target(false).with_ansi(colour).finish().with(targets).init();
        }
        LogFormat::Json => log.json().finish().with(targets).init(),
    }
}

fn start_runtime(config: &Config) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn run(config: Config, feed: Option<Feed>) -> anyhow::Result<()> {
    // Before anybody can connect: a signal that comes now is not lost.
    let mut signals = Signals::catch()?;
    #[cfg(feature = "sampler")]
    let sampler = sampler::Sampler::start()?;
    let hub = Hub::new(config.hub());
    let server = match inherited(&config)? {
        Some(listener) => Server::with_listener(listener, config.clone(), hub.clone())?,
        None => Server::bind(config.clone(), hub.clone())?,
    };
    announce(&config, &server, &hub)?;
    // A terminal that is closed ends what it has started, unless there is something to reload.
    if server.certificates().is_some() || !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        tokio::spawn(reload(hangup, server.certificates()));
    }
    advise(&config, server.publishing());
    let mut node = join(&config, &server, &hub).await?;
    let intake = node.as_ref().and_then(Node::intake);
    let interval = config.ws.broadcast_interval;
    let publisher = feed.map(|feed| match intake {
        Some(intake) => anyhow::Ok(tokio::spawn(Publisher::new(&hub, intake, interval).run(feed))),
        None => Ok(tokio::spawn(Publisher::new(&hub, hub.channel(MARKET)?, interval).run(feed))),
    });
    let mut publisher = publisher.transpose()?;
    let shutdown = async move {
        let (name, died) = tokio::select! {
            name = signals.next() => (name, false),
            () = died(&mut publisher) => ("the publisher has died", true),
            () = node_died(&mut node) => ("a task of the cluster's node has died", true),
        };
        let how = if name == TERMINATE { Shutdown::Restart } else { Shutdown::GoingAway };
        tracing::info!("{name}: shutting down, at most {} s", config.drain_timeout.as_secs_f64());
        if let Some(publisher) = publisher.filter(|publisher| !publisher.is_finished()) {
            // Nothing may be published any more when the first client is told to go.
            publisher.abort();
            let _ = publisher.await;
        }
        if let Some(node) = &mut node {
            // Another origin goes on while the clients of this one are told to come back.
            node.leave().await;
        }
        tokio::spawn(async move {
            let name = signals.next().await;
            say(&format!("tickcast: {name} again: exiting at once"));
            std::process::exit(1);
        });
        (how, died, node)
    };
    // A task of its own, so that it is polled by a worker and not by the thread that waits here.
    let (tell, told) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        let (how, died, node) = shutdown.await;
        // The receiver is below.
        let _ = tell.send((died, node));
        how
    };
    tokio::spawn(server.run(shutdown)).await.context("the server failed")??;
    #[cfg(feature = "sampler")]
    sampler.finish().await?;
    // The node goes last: clients may be waiting for what it brings.
    let died = told.await.is_ok_and(|(died, _node)| died);
    anyhow::ensure!(!died, "the publisher of snapshots, or the cluster's node, failed");
    tracing::info!("stopped");
    Ok(())
}

/// Reads the certificate again whenever SIGHUP says so.
async fn reload(mut hangup: Signal, certificates: Option<Certificates>) {
    while hangup.recv().await.is_some() {
        let Some(certificates) = certificates.clone() else {
            tracing::warn!("SIGHUP: nothing to reload, there is no TLS certificate");
            continue;
        };
        // Not here: a disk that keeps it waiting would keep clients waiting.
        let reloaded = tokio::task::spawn_blocking(move || {
            let path = certificates.path().display();
            match certificates.reload() {
                Ok(()) => tracing::info!("SIGHUP: the certificate in {path} is in use for new connections"),
                Err(error) => tracing::error!("SIGHUP: the certificate stays what it was: {error}"),
            }
        });
        // If that panics, it says so.
        let _ = reloaded.await;
    }
}

/// The listening socket that whoever started this process has opened for it (systemd's socket
/// activation, sd_listen_fds(3)). It stays open when this process ends, so nobody who connects
/// meanwhile is refused.
fn inherited(config: &Config) -> anyhow::Result<Option<Listener>> {
    let mut sockets = listenfd::ListenFd::from_env();
    anyhow::ensure!(sockets.len() <= 1, "LISTEN_FDS={}: one listening socket is expected", sockets.len());
    let Some(socket) = sockets.take_tcp_listener(0).context("LISTEN_FDS: not a listening TCP socket")? else {
        return Ok(None);
    };
    Ok(Some(Listener::from_std(socket, config).context("LISTEN_FDS: the socket cannot be used")?))
}

/// Makes the process a node of its cluster, if it is to be one.
async fn join(config: &Config, server: &Server, hub: &Hub) -> anyhow::Result<Option<Node>> {
    if !config.cluster.is_enabled() {
        return Ok(None);
    }
    let (origin, counts) = (config.clone(), hub.clone());
    let trouble = Box::new(move || source_trouble(&origin, &counts));
    let node = Node::join(&config.cluster, hub, trouble).await?;
    server.publish_through(node.gateway());
    Ok(Some(node))
}

/// Waits for the end of a node's tasks, which do not end by themselves.
async fn node_died(node: &mut Option<Node>) {
    match node {
        Some(node) => node.died().await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of a task that does not end by itself.
async fn died(task: &mut Option<tokio::task::JoinHandle<()>>) {
    match task {
        // How it ended is reported by the panic itself.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATE,
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Logs what somebody should know who has set up who may do what.
fn advise(config: &Config, publishing: Publishing) {
    match publishing {
        Publishing::Off => tracing::warn!(
            "publishing is off: the server listens for other machines and publishing has no token; set \
             auth.publish_tokens, or auth.open_publishing = true to let everybody publish"
        ),
        Publishing::Everybody if config.auth.open_publishing => {
            tracing::warn!("everybody may publish: auth.open_publishing");
        }
        _ => {}
    }
    config.auth.advice().into_iter().for_each(|advice| tracing::warn!("{advice}"));
}

/// Says where the server listens, its source and its channels.
fn announce(config: &Config, server: &Server, hub: &Hub) -> anyhow::Result<()> {
    let address = server.local_addr()?;
    let channels: Vec<_> = hub.channels().iter().map(|channel| channel.name().to_owned()).collect();
    if config.log_format == LogFormat::Json {
        let (source, tls) = (config.source_name(), config.tls.is_enabled());
        let cluster = config.cluster.is_enabled().then_some(config.cluster.role);
        let line = serde_json::json!({
            "listening": address.to_string(), "tls": tls, "source": source, "channels": channels, "cluster": cluster,
        });
        say(&line.to_string());
    } else {
        let s = if config.tls.is_enabled() { "s" } else { "" };
        say(&format!("tickcast {} listening on http{s}://{address}/", env!("CARGO_PKG_VERSION")));
        say(&format!("  source     {}", config.source_name()));
        if config.cluster.is_enabled() {
            let role = format!("{:?}", config.cluster.role).to_lowercase();
            let urls: Vec<_> = config.cluster.url.iter().map(ToString::to_string).collect();
            say(&format!("  cluster    {role} of {} on {}", config.cluster.subject, urls.join(", ")));
        }
        say(&format!("  channels   {} (ws{s}://{address}/ws/{MARKET})", channels.join(", ")));
    }
    Ok(())
}
