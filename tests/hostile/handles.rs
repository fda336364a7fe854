//! Handles: those that a plugin was never given, has given back, or was given for something else;
//! and calls at a time at which it may not make any.

use super::{
    Case, REFUSED, check,
    craft::{Core, for_ever, or_trap},
    go,
};

const VMS: &str = "leapfrog:runner/hypervisor@0.1.0";
const SERVERS: &str = "leapfrog:runner/cluster@0.1.0";
const LOG: &str = "leapfrog:runner/log@0.1.0";

/// A module with this function; it can ask for the name of a VM (0), and drop one (1).
fn with_vms(export: &'static str) -> Core {
    let wit = format!(
        "import {VMS}; use {VMS}.{{vm, machine}}; export {export}; \
         export again: func(index: u32) -> u32;"
    );
    Core::new(wit.leak()).import(VMS, "[method]vm.name", (2, 0)).import(VMS, "[resource-drop]vm", (1, 0))
}

/// Asks for the name of a VM whose handle it was given as a number.
fn again(core: Core) -> Vec<u8> {
    core.function("again", (1, 1), |code| {
        code.local_get(0).i32_const(2048).call(0).i32_const(0);
    })
    .component()
}

const UNKNOWN: &str = "step go: the plugin was stopped: unknown handle index 1";

#[test]
fn a_handle_that_was_not_given_for_this_is_none() {
    let given = "go: func(vm: borrow<vm>)";
    let forged = with_vms("go: func()").function("go", (0, 0), |code| {
        code.i32_const(77).i32_const(2048).call(0);
    });
    let guessed = with_vms("go: func()").function("go", (0, 0), |code| {
        for_ever(code, |code| {
            // Each number, one after the other.
            code.local_get(0).i32_const(1).i32_add().local_tee(0).i32_const(2048).call(0);
        });
    });
    let reused = with_vms(given).function("go", (1, 0), |code| {
        code.local_get(0).call(1).local_get(0).i32_const(2048).call(0);
    });
    let dropped_twice = with_vms(given).function("go", (1, 0), |code| {
        code.local_get(0).call(1).local_get(0).call(1);
    });
    let kept = with_vms(given).function("go", (1, 0), |_| ());
    let of_a_machine = with_vms("go: func(machine: borrow<machine>)").function("go", (1, 0), |code| {
        code.local_get(0).i32_const(2048).call(0);
    });
    let well = with_vms("go: func(vm: borrow<vm>) -> u32").function("go", (1, 1), |code| {
        code.local_get(0).i32_const(2048).call(0).local_get(0).call(1).local_get(0);
    });
    let from_another_step = "    call: go\n    with: {vm: sip-1}\n  - id: then\n    uses: ./plugin.wasm\n    \
                             call: again\n    with: {index: 1}\n";
    let call = |name, step, core: Core, says| Case { name, plugin: again(core), step, says, code: REFUSED };
    let on_a_vm = "    call: go\n    with: {vm: sip-1}\n";
    check(&[
        call("forged", "    call: go\n", forged, "step go: the plugin was stopped: unknown handle index 77"),
        call("guessed", "    call: go\n", guessed, UNKNOWN),
        call("used after it was dropped", on_a_vm, reused, UNKNOWN),
        call("dropped twice", on_a_vm, dropped_twice, UNKNOWN),
        call("kept beyond the call", on_a_vm, kept, "borrow handles still remain at the end of the call"),
        call(
            "of a machine, used as a VM's",
            "    call: go\n    with: {machine: a}\n",
            of_a_machine,
            "handle index 1 used with the wrong type",
        ),
        call(
            "from another step",
            from_another_step,
            well,
            "step then: the plugin was stopped: unknown handle index 1",
        ),
    ]);
}

#[test]
fn a_call_while_we_ask_for_room_is_refused() {
    let core = |wit| {
        Core::new(wit)
            .import(LOG, "note", (3, 0))
            .function("cabi_realloc", (4, 1), |code| {
                code.i32_const(0).i32_const(64).i32_const(4).call(0).i32_const(1024);
            })
            .data(64, b"here")
    };
    let plugin = core("import leapfrog:runner/log@0.1.0; export go: func(text: string);")
        .function("go", (2, 0), |_| ())
        .component();
    check(&[Case {
        step: "    with: {text: hello}\n",
        ..go(
            "call in the allocator",
            plugin,
            "step go: the plugin trapped: wasm trap: cannot leave component instance",
        )
    }]);
}

/// A list of so many texts, which are all the same megabyte of memory: 8 bytes stand for 1 MiB.
#[test]
fn a_list_of_what_is_in_memory_only_once_is_not_copied_for_ever() {
    let wit = "import leapfrog:runner/cluster@0.1.0; use leapfrog:runner/cluster@0.1.0.{server}; \
               export go: func(server: borrow<server>);";
    let at = |offset| wasm_encoder::MemArg { offset, align: 2, memory_index: 0 };
    let lists = |entries: i32, length: i32| {
        Core::new(wit)
            .with(|core| core.pages = 64)
            .import(SERVERS, "[method]server.query", (4, 0))
            .function("go", (1, 0), |code| {
                // Local 1 counts the entries, from the last one.
                code.i32_const(entries).local_set(1).loop_(wasm_encoder::BlockType::Empty);
                code.local_get(1).i32_const(1).i32_sub().local_tee(1).i32_const(8).i32_mul();
                code.i32_const(2 << 20).i32_store(at(65_536));
                code.local_get(1).i32_const(8).i32_mul().i32_const(length).i32_store(at(65_540));
                code.local_get(1).br_if(0).end();
                code.local_get(0).i32_const(65_536).i32_const(entries).i32_const(2048).call(0);
            })
            .component()
    };
    let of_a_server = "    with: {server: sip-1}\n";
    let case = |name, plugin, says| Case { step: of_a_server, ..go(name, plugin, says) };
    check(&[
        case(
            "thousands of megabytes",
            lists(100_000, 1 << 20),
            "step go: the plugin exceeded its limit of data: too much of it in one call",
        ),
        case(
            "100 MiB",
            lists(100, 1 << 20),
            "step go: the plugin exceeded its limit of arguments: 104857700 bytes for one command, 131072 are allowed",
        ),
        case("entries beyond its memory", lists_beyond(wit), "list pointer/length out of bounds of memory"),
    ]);
}

fn lists_beyond(wit: &'static str) -> Vec<u8> {
    Core::new(wit)
        .import(SERVERS, "[method]server.query", (4, 0))
        .function("go", (1, 0), |code| {
            code.local_get(0).i32_const(0).i32_const(1 << 28).i32_const(2048).call(0);
        })
        .component()
}

/// The handles that it was given are its own; what it does with them is counted.
#[test]
fn a_million_handles_are_too_many() {
    let wit = "import leapfrog:runner/cluster@0.1.0; import leapfrog:runner/hypervisor@0.1.0; \
               use leapfrog:runner/cluster@0.1.0.{server}; export go: func(server: borrow<server>);";
    let plugin = Core::new(wit)
        .import(SERVERS, "[method]server.vm", (1, 1))
        .function("go", (1, 0), |code| {
            for_ever(code, |code| {
                code.local_get(0).call(0);
                or_trap(code);
            });
        })
        .component();
    let says = "step go: the plugin exceeded its limit of handles: more than 10000 at once";
    check(&[Case { step: "    with: {server: sip-1}\n", ..go("a million handles", plugin, says) }]);
}
