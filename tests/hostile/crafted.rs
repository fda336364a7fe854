//! Endless work, memory, tables, stacks, wrong values, and what a plugin wants that there is not.

use super::{
    Case, check,
    craft::{
        Core, for_ever, instances, makes_handles_of_its_own, or_trap, wants, wants_a_type_of_a_function,
        wants_function,
    },
    go,
};

const NOTHING: &str = "export go: func();";
const NOTES: &str = "import leapfrog:runner/log@0.1.0; export go: func();";
const LOG: &str = "leapfrog:runner/log@0.1.0";
const COMPUTING: &str =
    "step go: the plugin exceeded its limit of computing time: it computed for more than 10 s";
const MEMORY: &str = "step go: the plugin exceeded its limit of memory: more than 67108864 bytes of memory";
const GIGABYTE: i32 = 1 << 30;

/// A function without arguments that does this.
fn that(write: impl FnOnce(&mut wasm_encoder::InstructionSink<'_>)) -> Vec<u8> {
    Core::new(NOTHING).function("go", (0, 0), write).component()
}

fn endless(code: &mut wasm_encoder::InstructionSink<'_>) {
    for_ever(code, |_| ());
}

/// Writes a note at this level, of so many bytes at this place.
fn note(level: i32, at: i32, length: i32) -> Vec<u8> {
    Core::new(NOTES)
        .import(LOG, "note", (3, 0))
        .function("go", (0, 0), |code| {
            code.i32_const(level).i32_const(at).i32_const(length).call(0);
        })
        .data(64, b"fine \xff\xfe not")
        .component()
}

/// Gives what lies at 2048.
fn gives(wit: &'static str, bytes: &[u8]) -> Vec<u8> {
    Core::new(wit)
        .function("go", (0, 1), |code| {
            code.i32_const(2048);
        })
        .data(2048, bytes)
        .component()
}

/// Grows for ever, by 16 pages or 1,000 entries, and gives up when it may not.
fn grows(table: bool) -> Vec<u8> {
    Core::new(NOTHING)
        .with(|core| core.entries = table.then_some(1))
        .function("go", (0, 0), |code| {
            for_ever(code, |code| {
                if table {
                    code.ref_null(wasm_encoder::HeapType::FUNC).i32_const(1_000).table_grow(0);
                } else {
                    code.i32_const(16).memory_grow(0);
                }
                or_trap(code);
            });
        })
        .component()
}

#[test]
fn what_works_without_an_end_or_takes_all_there_is_is_stopped() {
    let in_start = Core::new(NOTHING)
        .with(|core| core.starts = true)
        .function("go", (0, 0), |_| ())
        .function("start", (0, 0), endless);
    let of_a_vm = "import leapfrog:runner/hypervisor@0.1.0; use leapfrog:runner/hypervisor@0.1.0.{vm}; \
                   export go: func(vm: borrow<vm>);";
    let in_the_allocator = Core::new(of_a_vm)
        .import("leapfrog:runner/hypervisor@0.1.0", "[method]vm.name", (2, 0))
        .function("go", (1, 0), |code| {
            code.local_get(0).i32_const(2048).call(0);
        })
        .function("cabi_realloc", (4, 1), |code| {
            for_ever(code, |_| ());
            code.unreachable();
        });
    check(&[
        go("endless loop", that(endless), COMPUTING),
        go("endless loop in start", in_start.component(), COMPUTING),
        Case {
            step: "    with: {vm: sip-1}\n",
            ..go("endless loop where we ask for room", in_the_allocator.component(), COMPUTING)
        },
        go(
            "stack bomb",
            that(|code| {
                code.call(0);
            }),
            "step go: the plugin exceeded its limit of stack",
        ),
        go("memory bomb", grows(false), MEMORY),
        go("memory, two of 40 MiB", instances(2, Some(640)), MEMORY),
        go("memory, three of them", instances(3, Some(1)), "linear memories, which exceeds"),
        go(
            "memory of 128 MiB from the beginning",
            Core::new(NOTHING).with(|core| core.pages = 2048).function("go", (0, 0), |_| ()).component(),
            "minimum byte size of 134217728 which exceeds the limit",
        ),
        go(
            "table bomb",
            grows(true),
            "step go: the plugin exceeded its limit of tables: more than 20000 entries in its tables",
        ),
        go(
            "table of a million entries",
            Core::new(NOTHING)
                .with(|core| core.entries = Some(1_000_000))
                .function("go", (0, 0), |_| ())
                .component(),
            "exceeds the limit of 20000",
        ),
        go("instances, forty of them", instances(40, None), "core module instances, which exceeds"),
        go(
            "handles of its own for ever",
            makes_handles_of_its_own(),
            "step go: the plugin exceeded its limit of handles: too many of its own",
        ),
    ]);
}

#[test]
fn a_wrong_value_at_the_border_ends_the_plugin() {
    let realloc = |at: i32| {
        Core::new("export go: func(text: string);")
            .function("go", (2, 0), |_| ())
            .function("cabi_realloc", (4, 1), move |code| {
                code.i32_const(at);
            })
            .component()
    };
    let text = |name, at, says| Case { step: "    with: {text: hello}\n", ..go(name, realloc(at), says) };
    let stopping = "use leapfrog:runner/types@0.1.0.{stop}; export go: func() -> result<string, stop>;";
    check(&[
        go(
            "trap",
            that(|code| {
                code.unreachable();
            }),
            "step go: the plugin trapped: wasm trap: wasm `unreachable` instruction executed",
        ),
        go(
            "memory that it does not have",
            that(|code| {
                code.i32_const(GIGABYTE)
                    .i32_load(wasm_encoder::MemArg { offset: 0, align: 2, memory_index: 0 })
                    .drop();
            }),
            "step go: the plugin trapped: wasm trap: out of bounds memory access",
        ),
        go(
            "note outside of its memory",
            note(0, GIGABYTE, 16),
            "string pointer/length out of bounds of memory",
        ),
        go("note beyond its memory", note(0, 64, GIGABYTE), "string pointer/length out of bounds of memory"),
        go("note that is not UTF-8", note(0, 64, 12), "the plugin was stopped: invalid utf-8"),
        go("note of a level that there is not", note(99, 64, 4), "discriminant"),
        go("result that is neither", gives(stopping, &[7, 0, 0, 0]), "discriminant"),
        go("stop of a case that there is not", gives(stopping, &[1, 0, 0, 0, 9, 0, 0, 0]), "discriminant"),
        go(
            "text outside of its memory",
            gives("export go: func() -> string;", &[0, 0, 0, 64, 255, 0, 0, 0]),
            "out of bounds of memory",
        ),
        go(
            "list of four billion",
            gives("export go: func() -> list<u8>;", &[0, 0, 0, 0, 255, 255, 255, 255]),
            "out of bounds of memory",
        ),
        text("room outside of its memory", GIGABYTE, "realloc return: beyond end of memory"),
        go(
            "types that are written in no time and take gigabytes",
            types_of_gigabytes(),
            "the types of its functions are too large",
        ),
    ]);
}

/// A tuple of ten tuples of ten tuples …, at whose end there is a record with a long name in it.
fn types_of_gigabytes() -> Vec<u8> {
    let long = "x".repeat(60_000);
    let mut wit = format!("record a {{ {long}: u8 }} ");
    for (of, ty) in ["a", "b", "c", "d", "e"].windows(2).map(|pair| (pair[0], pair[1])) {
        wit += &format!("type {ty} = tuple<{}>; ", [of; 10].join(", "));
    }
    wit += "export go: func(value: e);";
    Core::new(wit.leak()).function("go", (1, 0), |_| ()).component()
}

fn not_offered(import: &str) -> &'static str {
    format!("imports `{import}`, which this runner does not offer").leak()
}

#[test]
fn what_wants_more_than_there_is_is_told_by_name_and_not_begun() {
    let interfaces = [
        ("files of the system", "wasi:filesystem/preopens@0.2.0"),
        ("environment of the system", "wasi:cli/environment@0.2.3"),
        ("sockets", "wasi:sockets/tcp@0.2.0"),
        ("HTTP", "wasi:http/outgoing-handler@0.2.0"),
        ("clock on the wall", "wasi:clocks/wall-clock@0.2.0"),
        ("an interface of nobody", "evil:corp/backdoor@1.0.0"),
        ("a later version", "leapfrog:runner/cluster@0.2.0"),
        ("what drivers give", "leapfrog:runner/driver@0.1.0"),
    ];
    let mut cases: Vec<Case> =
        interfaces.map(|(name, import)| go(name, wants(import), not_offered(import))).into();
    cases.push(go("a function of the runner's", wants_function("shell"), not_offered("shell")));
    check(&cases);
    // These have no place in WIT; some of them are valid all the same.
    check(&[
        go(
            "an interface at an address",
            wants("url=<https://example.com/\u{1b}]0;owned\u{7}>"),
            "plugin.wasm",
        ),
        go("a function at an address", wants_function("url=<https://example.com/x>"), "plugin.wasm"),
        go("a function that is called as an interface", wants_function("evil:corp/backdoor"), "plugin.wasm"),
        go("a type of a function", wants_a_type_of_a_function(LOG), "plugin.wasm"),
    ]);
}
