//! A TOML file of runs: what stands at the top holds for all of them, each `[[run]]` adds its own.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::KEYS;
use super::{Plan, apply, value};

/// Reads the runs of a file.
///
/// # Errors
/// What is not understood, with the file and the line.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Plan>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let source = Source { path, text: &text };
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        anyhow!("{}: not valid TOML: {}", source.line(at), error.message())
    })?;
    let mut common = Plan::default();
    let mut runs = None;
    for (name, value) in table.get_ref() {
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("run", DeValue::Array(tables)) => runs = Some(tables),
            (name, _) => source.set(&mut common, name, value)?,
        }
    }
    let Some(runs) = runs else { return Ok(vec![common]) };
    let mut plans: Vec<Plan> = Vec::new();
    for run in runs {
        let DeValue::Table(table) = run.get_ref() else {
            bail!("{}: each run is a table, written [[run]]", source.line(run.span().start));
        };
        let mut plan = common.clone();
        for (name, value) in table {
            source.set(&mut plan, name.get_ref(), value)?;
        }
        if plan.name.is_empty() {
            plan.name = format!("{} {}", plans.len() + 1, plan.scenario.name());
        }
        if plans.iter().any(|other| other.name == plan.name) {
            bail!("{}: there are two runs named {:?}", source.line(run.span().start), plan.name);
        }
        plans.push(plan);
    }
    Ok(plans)
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: usize) -> String {
        let line = 1 + self.text[..at.min(self.text.len())].matches('\n').count();
        format!("{}, line {line}", self.path.display())
    }

    fn set(&self, plan: &mut Plan, name: &str, value: &Spanned<DeValue<'_>>) -> anyhow::Result<()> {
        let place = || self.line(value.span().start);
        if name == "name" {
            let Some(text) = scalar(value.get_ref()) else { bail!("{}: `name` has to be text", place()) };
            plan.name = text;
            return Ok(());
        }
        let flag = name.replace('_', "-");
        let Some(key) = KEYS.iter().find(|key| key.flag == flag) else {
            let known: Vec<_> = KEYS.iter().map(|key| key.flag.replace('-', "_")).collect();
            bail!("{}: unknown key `{name}`; known keys: name, run, {}", place(), known.join(", "));
        };
        let texts = match value.get_ref() {
            DeValue::Array(values) if key.many => values.iter().map(|value| scalar(value.get_ref())).collect(),
            value => scalar(value).map(|text| vec![text]),
        };
        let Some(texts) = texts else {
            let expected = if key.many { "text, or an array of it" } else { "text or a number" };
            bail!("{}: `{name}` is of the wrong type: expected {expected}", place());
        };
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        apply(plan, key, &texts).map_err(|(text, expected)| {
            anyhow!("{}: `{name}` = {:?}: expected {expected}", place(), value::shown(key.flag, text))
        })
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}
