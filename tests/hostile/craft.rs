//! Components made here, byte by byte where it must be: what no compiler would write.

use leapfrog::engine::encode::encode;
use wasm_encoder::{
    BlockType, CanonicalOption, CodeSection, ComponentBuilder, ComponentExportKind, ComponentTypeRef,
    ComponentValType, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, ImportSection, InstanceType, InstructionSink, MemorySection, MemoryType, Module,
    ModuleArg, RefType, StartSection, TableSection, TableType, TypeSection, ValType,
};
use wit_parser::Resolve;

use crate::support::repository;

/// How many numbers of 32 bits a function takes and gives.
type Shape = (usize, usize);

/// Where the allocator of a module puts everything.
pub const ROOM: i32 = 1024;

/// A core module in the making, with the world that it is said to fit.
pub struct Core {
    /// What stands between the braces of its world.
    wit: &'static str,
    imports: Vec<(&'static str, &'static str, Shape)>,
    code: Vec<(&'static str, Shape, Function)>,
    data: Vec<(i32, Vec<u8>)>,
    pub pages: u64,
    pub entries: Option<u64>,
    /// The last function is run when it is instantiated.
    pub starts: bool,
}

impl Core {
    pub fn new(wit: &'static str) -> Self {
        Self {
            wit,
            imports: Vec::new(),
            code: Vec::new(),
            data: Vec::new(),
            pages: 2,
            entries: None,
            starts: false,
        }
    }

    /// Imports are numbered first, from 0.
    pub fn import(mut self, interface: &'static str, name: &'static str, shape: Shape) -> Self {
        self.imports.push((interface, name, shape));
        self
    }

    /// A function of this shape, with four more numbers of its own.
    pub fn function(
        mut self,
        name: &'static str,
        shape: Shape,
        write: impl FnOnce(&mut InstructionSink<'_>),
    ) -> Self {
        let mut function = Function::new([(4, ValType::I32)]);
        let mut code = function.instructions();
        write(&mut code);
        code.end();
        self.code.push((name, shape, function));
        self
    }

    pub fn data(mut self, at: i32, bytes: &[u8]) -> Self {
        self.data.push((at, bytes.to_vec()));
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn module(self) -> Module {
        let mut own = self;
        if !own.code.iter().any(|(name, ..)| *name == "cabi_realloc") {
            let at = own.code.len() - usize::from(own.starts);
            let mut last = own.code.split_off(at);
            own = own.function("cabi_realloc", (4, 1), |code| {
                code.i32_const(ROOM);
            });
            own.code.append(&mut last);
        }
        let (mut types, mut imports, mut functions) =
            (TypeSection::new(), ImportSection::new(), FunctionSection::new());
        let mut exports = ExportSection::new();
        let mut code = CodeSection::new();
        let numbers = |count| vec![ValType::I32; count];
        let mut count = 0;
        for (interface, name, (takes, gives)) in &own.imports {
            types.ty().function(numbers(*takes), numbers(*gives));
            imports.import(interface, name, EntityType::Function(count));
            count += 1;
        }
        exports.export("memory", ExportKind::Memory, 0);
        let last = own.code.len() - 1;
        for (at, (name, (takes, gives), body)) in own.code.iter().enumerate() {
            types.ty().function(numbers(*takes), numbers(*gives));
            functions.function(count);
            if !(own.starts && at == last) {
                exports.export(name, ExportKind::Func, count);
            }
            code.function(body);
            count += 1;
        }
        let mut memories = MemorySection::new();
        memories.memory(memory(own.pages));
        let mut tables = TableSection::new();
        if let Some(minimum) = own.entries {
            let element_type = RefType::FUNCREF;
            tables.table(TableType { element_type, table64: false, minimum, maximum: None, shared: false });
        }
        let mut data = DataSection::new();
        for (at, bytes) in &own.data {
            data.active(0, &ConstExpr::i32_const(*at), bytes.iter().copied());
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&tables).section(&memories);
        module.section(&exports);
        if own.starts {
            module.section(&StartSection { function_index: count - 1 });
        }
        module.section(&code).section(&data);
        module
    }

    pub fn component(self) -> Vec<u8> {
        let wit = format!("package tests:hostile; world hostile {{ {} }}", self.wit);
        let mut module = self.module().finish();
        let mut resolve = Resolve::default();
        resolve.push_path(repository("wit")).unwrap();
        let package =
            resolve.push_str("hostile.wit", &wit).unwrap_or_else(|error| panic!("{error:#}: {wit}"));
        let world = resolve.select_world(&[package], None).unwrap();
        wit_component::embed_component_metadata(&mut module, &resolve, world, Default::default()).unwrap();
        encode(&module).unwrap_or_else(|error| panic!("{error}: {wit}"))
    }
}

fn memory(minimum: u64) -> MemoryType {
    MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None }
}

/// For ever, what is in it.
pub fn for_ever(code: &mut InstructionSink<'_>, what: impl FnOnce(&mut InstructionSink<'_>)) {
    code.loop_(BlockType::Empty);
    what(code);
    code.br(0).end();
}

/// Trap when what is on the stack is -1.
pub fn or_trap(code: &mut InstructionSink<'_>) {
    code.i32_const(-1).i32_eq().if_(BlockType::Empty).unreachable().end();
}

/// A module with an empty function `go`, and memory if so many pages are asked for.
fn tiny(pages: Option<u64>) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut memories = MemorySection::new();
    if let Some(pages) = pages {
        memories.memory(memory(pages));
    }
    let mut exports = ExportSection::new();
    exports.export("go", ExportKind::Func, 0);
    let mut code = CodeSection::new();
    let mut function = Function::new([]);
    function.instructions().end();
    code.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    module
}

fn instantiate(component: &mut ComponentBuilder, module: u32) -> u32 {
    component.core_instantiate(None, module, Vec::<(&str, ModuleArg)>::new())
}

/// Export the function `go` of a core instance.
fn export_go(component: &mut ComponentBuilder, instance: u32) {
    let core = component.core_alias_export(None, instance, "go", ExportKind::Func);
    let (ty, mut function) = component.type_function(None);
    function.params(Vec::<(&str, ComponentValType)>::new()).result(None);
    let lifted = component.lift_func(None, core, ty, Vec::<CanonicalOption>::new());
    component.export("go", ComponentExportKind::Func, lifted, None);
}

/// So many instances of a module with so many pages of memory each.
pub fn instances(count: u32, pages: Option<u64>) -> Vec<u8> {
    let mut component = ComponentBuilder::default();
    let module = component.core_module(None, &tiny(pages));
    let last = (0..count).map(|_| instantiate(&mut component, module)).last().unwrap();
    export_go(&mut component, last);
    component.finish()
}

/// It wants an instance of this name, in which there is nothing.
pub fn wants(name: &str) -> Vec<u8> {
    wants_as(name, |component| {
        let ty = component.type_instance(None, &InstanceType::new());
        ComponentTypeRef::Instance(ty)
    })
}

/// It wants a function of this name.
pub fn wants_function(name: &str) -> Vec<u8> {
    wants_as(name, |component| {
        let (ty, mut function) = component.type_function(None);
        function.params(Vec::<(&str, ComponentValType)>::new()).result(None);
        ComponentTypeRef::Func(ty)
    })
}

/// It wants an interface with a type that is a function's, for which WIT has no words.
pub fn wants_a_type_of_a_function(name: &str) -> Vec<u8> {
    wants_as(name, |component| {
        let mut instance = InstanceType::new();
        let mut function = instance.ty().function();
        function.params(Vec::<(&str, ComponentValType)>::new()).result(None);
        instance.export("t", ComponentTypeRef::Type(wasm_encoder::TypeBounds::Eq(0)));
        ComponentTypeRef::Instance(component.type_instance(None, &instance))
    })
}

fn wants_as(name: &str, ty: impl FnOnce(&mut ComponentBuilder) -> ComponentTypeRef) -> Vec<u8> {
    let mut component = ComponentBuilder::default();
    let ty = ty(&mut component);
    component.import(name, ty);
    let module = component.core_module(None, &tiny(None));
    let instance = instantiate(&mut component, module);
    export_go(&mut component, instance);
    component.finish()
}

/// It makes handles of a resource of its own for ever: no call of ours has a part in it.
pub fn makes_handles_of_its_own() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    imports.import("own", "new", EntityType::Function(0));
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut exports = ExportSection::new();
    exports.export("go", ExportKind::Func, 1);
    let mut function = Function::new([]);
    let mut body = function.instructions();
    for_ever(&mut body, |code| {
        code.i32_const(1).call(0).drop();
    });
    body.end();
    let mut code = CodeSection::new();
    code.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);

    let mut component = ComponentBuilder::default();
    let resource = component.type_resource(None, ValType::I32, None);
    let new = component.resource_new(resource);
    let own = component.core_instantiate_exports(None, [("new", ExportKind::Func, new)]);
    let module = component.core_module(None, &module);
    let instance = component.core_instantiate(None, module, [("own", ModuleArg::Instance(own))]);
    export_go(&mut component, instance);
    component.finish()
}

/// A component with functions and so many bytes of nothing in it.
pub fn padded(bytes: usize) -> Vec<u8> {
    let mut component = ComponentBuilder::default();
    let module = component.core_module(None, &tiny(None));
    let instance = instantiate(&mut component, module);
    export_go(&mut component, instance);
    let (name, data) = ("padding".into(), vec![0; bytes].into());
    component.custom_section(&wasm_encoder::CustomSection { name, data });
    component.finish()
}
