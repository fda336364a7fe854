//! The classes of calls: one table.
//!
//! A plugin cannot choose the class of what it calls.

/// What a repeat of a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Changes nothing: repeatable, needs no intent.
    Read,
    /// Changes the world; a repeat is harmless or is settled by looking.
    Ensure,
    /// Changes the world; a repeat would do harm.
    Once,
    /// Waits for something that goes on anyway: repeatable, needs no intent.
    Wait,
}

impl Class {
    /// Whether the call must be in the journal, durably, before it is made.
    pub const fn needs_intent(self) -> bool {
        matches!(self, Class::Ensure | Class::Once)
    }
}

macro_rules! functions {
    ($($variant:ident $name:literal $class:ident,)*) => {
        /// A function of `wit/` that goes through the door.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Function { $($variant,)* }

        impl Function {
            /// The word for it in traces, journals and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }

            /// The function of a journal's word.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

functions! {
    VmPlacements      "vm.placements"      Read,
    VmPreflight       "vm.preflight"       Read,
    VmMigrate         "vm.migrate"         Ensure,
    MigrationWait     "migration.wait"     Wait,
    MigrationAbort    "migration.abort"    Ensure,
    ServerAnswers     "server.answers"     Read,
    ServerQuery       "server.query"       Read,
    ServerExecute     "server.execute"     Once,
    PairRoles         "pair.roles"         Read,
    PairOverlap       "pair.overlap"       Read,
    PairSwitchover    "pair.switchover"    Ensure,
    PairSettled       "pair.settled"       Wait,
    SwitchoverWait    "switchover.wait"    Wait,
    SessionQuery      "session.query"      Read,
    SessionExecute    "session.execute"    Once,
    DriverDescribe    "driver.describe"    Read,
    DriverRoles       "driver.roles"       Read,
    DriverSwitchover  "driver.switchover"  Once,
    DriverUnsettled   "driver.unsettled"   Read,
    DriverDeadTime    "driver.dead-time"   Read,
    TimeSleep         "time.sleep"         Wait,
    LogNote           "log.note"           Read,
    RunStep           "run.step"           Read,
    RunConfirm        "run.confirm"        Wait,
    RunPointOfNoReturn "run.point-of-no-return" Read,
    RunWaitAny        "run.wait-any"       Wait,
    MigrationEnded    "migration.ended"    Wait,
    SwitchoverEnded   "switchover.ended"   Wait,
    StepEnded         "step.ended"         Wait,
}

impl Function {
    /// Whether what it gave holds also after a crash, though it has no intent: it says how an
    /// effect ended or what a person decided, not how things are.
    pub const fn binds(self) -> bool {
        use Function::*;
        matches!(
            self,
            MigrationWait
                | SwitchoverWait
                | RunConfirm
                | RunWaitAny
                | MigrationEnded
                | SwitchoverEnded
                | StepEnded
        )
    }
}
