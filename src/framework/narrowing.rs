//! What filters say before they see a node.

use std::collections::BTreeSet;

/// The nodes that one filter leaves for a class; upstream `PreFilterResult`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Narrowing<'a> {
    /// Every node may be asked.
    AllNodes,
    /// The nodes of these names alone, whether they exist or not.
    Only(BTreeSet<&'a str>),
    /// None, and why, in upstream's words.
    NoNode(&'static str),
}

/// What the filters of a profile leave together.
#[derive(Debug, Default)]
pub(super) struct Narrowed<'a> {
    /// filters that narrowed, by their place in the profile
    pub(super) by: u32,
    plugins: Vec<&'static str>,
    names: Option<BTreeSet<&'a str>>,
    refusal: Option<String>,
}

impl<'a> Narrowed<'a> {
    /// Takes in what the next filter says; upstream `RunPreFilterPlugins`.
    pub(super) fn merge(&mut self, place: usize, plugin: &'static str, said: Narrowing<'a>) {
        if self.refusal.is_some() {
            return;
        }
        let only = match said {
            Narrowing::AllNodes => return,
            Narrowing::Only(names) => names,
            Narrowing::NoNode(why) => {
                self.by = 1 << place;
                self.names = Some(BTreeSet::new());
                self.refusal = Some(why.to_owned());
                return;
            }
        };
        self.by |= 1 << place;
        self.plugins.push(plugin);
        self.plugins.sort_unstable();
        let both = match self.names.take() {
            Some(names) => names.intersection(&only).copied().collect(),
            None => only,
        };
        if both.is_empty() {
            self.refusal = Some(match *self.plugins {
                [one] => format!("node(s) didn't satisfy plugin {one}"),
                _ => format!("{} simultaneously", self.text()),
            });
        }
        self.names = Some(both);
    }

    pub(super) fn leaves_out(&self, node: &str) -> bool {
        self.names.as_ref().is_some_and(|names| !names.contains(node))
    }

    /// What is said once, instead of counting nodes.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// What is said of each node that is left out.
    pub(super) fn text(&self) -> String {
        format!("node(s) didn't satisfy plugin(s) [{}]", self.plugins.join(" "))
    }
}
