//! The real binary `sluice-plugin`, in folders of its own.

mod new;
