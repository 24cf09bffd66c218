//! What a run was like: the model, its figures by name, and the views for people and programs.

mod chart;
pub(crate) mod compare;
mod facts;
pub(crate) mod format;
mod grid;
pub(crate) mod html;
pub(crate) mod metric;
pub(crate) mod model;
mod outcome;
pub(crate) mod table;
pub(crate) mod threshold;
