//! Whether a machine's CPU can be what a running guest relies on.

use virt::{connect::Connect, error::ErrorNumber, sys};

use super::{
    connect::said,
    unsafe_edge::{self, Kind},
};

/// A machine's CPU against the one that a guest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    Same,
    /// It has everything, and more.
    More,
    /// It lacks something; libvirt's words, which name the features.
    Lacks(String),
    /// It could not be compared, and why.
    Unknown(String),
}

/// Compare `cpu` (an element `<cpu>`) with what the machine's hypervisor can give. Blocks.
pub(super) fn compare(connect: &Connect, kind: &Kind<'_>, cpu: &str) -> Fit {
    match unsafe_edge::compare_hypervisor_cpu(connect, kind, cpu) {
        Ok(sys::VIR_CPU_COMPARE_IDENTICAL) => Fit::Same,
        Ok(sys::VIR_CPU_COMPARE_SUPERSET) => Fit::More,
        Ok(_) => Fit::Lacks("libvirt does not say what".to_owned()),
        Err(error) if error.code() == ErrorNumber::CpuIncompatible => Fit::Lacks(said(&error)),
        Err(error) => Fit::Unknown(said(&error)),
    }
}
