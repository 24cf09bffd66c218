//! What a run is to be.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::KEYS;
use crate::probe::Usage;
use crate::report::threshold::Threshold;
use crate::tls::{self, Trust};
use crate::wire::template::{Template, TimeUnit};
use crate::wire::url::Url;

/// What the load is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Steady,
    Ramp,
    Churn,
    Storm,
    Slow,
    Soak,
}

impl Scenario {
    /// By name.
    pub(crate) const NAMES: [(&'static str, Self); 6] = [
        ("steady", Self::Steady),
        ("ramp", Self::Ramp),
        ("churn", Self::Churn),
        ("storm", Self::Storm),
        ("slow", Self::Slow),
        ("soak", Self::Soak),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, scenario)| *scenario == self).map_or("", |(name, _)| name)
    }
}

/// One run, as it was asked for. The meaning of each field stands in [`KEYS`].
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) url: Option<Url>,
    pub(crate) scenario: Scenario,
    pub(crate) connections: usize,
    pub(crate) ramp: Duration,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) settle: Duration,
    pub(crate) workers: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) trust: Trust,
    pub(crate) headers: Vec<String>,
    pub(crate) token: Option<String>,
    pub(crate) source_addresses: Vec<IpAddr>,
    pub(crate) ts_field: String,
    pub(crate) ts_unit: TimeUnit,
    pub(crate) seq_field: String,
    pub(crate) publish_url: Option<Url>,
    pub(crate) publish_rate: f64,
    pub(crate) payload: usize,
    pub(crate) publish_binary: bool,
    pub(crate) publish_pipeline: usize,
    pub(crate) publish_headers: Vec<String>,
    pub(crate) publish_token: Option<String>,
    pub(crate) server_pid: Option<u32>,
    pub(crate) step_factor: f64,
    pub(crate) step_duration: Duration,
    pub(crate) p99_limit: Duration,
    pub(crate) delivered_limit: f64,
    pub(crate) max_rate: f64,
    pub(crate) churn_share: f64,
    pub(crate) storms: u32,
    pub(crate) slow_share: f64,
    pub(crate) slow_rate: u64,
    pub(crate) stretch: Duration,
    pub(crate) fail_if: Vec<Threshold>,
    /// Every option as text, for the report.
    pub(crate) texts: std::collections::BTreeMap<String, String>,
}

/// What the whole invocation is to do.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) plans: Vec<Plan>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) quiet: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let mut plan = Self {
            name: String::new(),
            url: None,
            scenario: Scenario::Steady,
            connections: 0,
            ramp: Duration::ZERO,
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            settle: Duration::ZERO,
            workers: 0,
            connect_timeout: Duration::ZERO,
            trust: Trust::default(),
            headers: Vec::new(),
            token: None,
            source_addresses: Vec::new(),
            ts_field: String::new(),
            ts_unit: TimeUnit::Micros,
            seq_field: String::new(),
            publish_url: None,
            publish_rate: 0.0,
            payload: 0,
            publish_binary: false,
            publish_pipeline: 0,
            publish_headers: Vec::new(),
            publish_token: None,
            server_pid: None,
            step_factor: 0.0,
            step_duration: Duration::ZERO,
            p99_limit: Duration::ZERO,
            delivered_limit: 0.0,
            max_rate: 0.0,
            churn_share: 0.0,
            storms: 0,
            slow_share: 0.0,
            slow_rate: 0,
            stretch: Duration::ZERO,
            fail_if: Vec::new(),
            texts: std::collections::BTreeMap::new(),
        };
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            (key.set)(&mut plan, key.default).expect("defaults are valid");
            plan.texts.insert(key.flag.to_owned(), key.default.to_owned());
        }
        plan
    }
}

impl Plan {
    /// Checks what no option can say by itself.
    ///
    /// # Errors
    /// What is missing or does not fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(url) = &self.url else {
            return Err("--url is missing: what to connect to, such as ws://127.0.0.1:8080/ws/market".to_owned());
        };
        for url in std::iter::once(url).chain(&self.publish_url) {
            url.resolve().map_err(|error| format!("cannot find the host of {url}: {error}"))?;
            tls::Client::new(url, &self.trust)?;
        }
        if self.trust.insecure && self.trust.ca.is_some() {
            return Err("--ca and --insecure: either certificates of this authority, or any".to_owned());
        }
        if let Some(pid) = self.server_pid
            && Usage::of_tree(pid, false).is_none()
        {
            return Err(format!("--server-pid {pid}: there is no such process"));
        }
        if self.scenario == Scenario::Ramp && self.publish_url.is_none() {
            return Err("--scenario ramp needs --publish-url: it decides how much is published".to_owned());
        }
        if self.scenario == Scenario::Ramp && self.publish_rate > self.max_rate {
            return Err("--scenario ramp begins with --publish-rate, which is over --max-rate".to_owned());
        }
        if self.scenario == Scenario::Slow && self.slow_clients() == 0 {
            return Err(format!("--scenario slow: --slow-share of {} connections is nobody", self.connections));
        }
        if self.publish_url.is_some() {
            if self.ts_field.is_empty() {
                return Err("--publish-url needs a --ts-field to carry the time".to_owned());
            }
            self.template()?;
        }
        for threshold in &self.fail_if {
            if let Some(missing) = threshold.unmeasured(self) {
                return Err(format!("--fail-if '{}' needs {missing}", threshold.expression));
            }
        }
        Ok(())
    }

    /// The messages to publish.
    ///
    /// # Errors
    /// Why there can be none of this size with these fields.
    pub(crate) fn template(&self) -> Result<Template, String> {
        Template::new(&self.ts_field, &self.seq_field, self.ts_unit, self.payload)
            .map_err(|error| format!("--payload {} with --ts-field and --seq-field: {error}", self.payload))
    }

    /// Forgets what an option that may be repeated was set to.
    pub(super) fn clear(&mut self, flag: &str) {
        match flag {
            "header" => self.headers.clear(),
            "publish-header" => self.publish_headers.clear(),
            "source-address" => self.source_addresses.clear(),
            "fail-if" => self.fail_if.clear(),
            _ => debug_assert!(false, "{flag} may not be repeated"),
        }
    }

    /// What is added to handshakes.
    pub(crate) fn all_headers(&self) -> Vec<String> {
        with_token(&self.headers, self.token.as_ref())
    }

    /// What is added to publications.
    pub(crate) fn all_publish_headers(&self) -> Vec<String> {
        with_token(&self.publish_headers, self.publish_token.as_ref())
    }

    /// How many clients read slowly in the scenario `slow`.
    pub(crate) fn slow_clients(&self) -> usize {
        (self.connections as f64 * self.slow_share) as usize
    }

    /// Threads that read.
    pub(crate) fn worker_threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if self.workers == 0 { (processors / 2).max(1) } else { self.workers };
        workers.min(self.connections)
    }
}

fn with_token(headers: &[String], token: Option<&String>) -> Vec<String> {
    headers.iter().cloned().chain(token.map(|token| format!("Authorization: Bearer {token}"))).collect()
}
