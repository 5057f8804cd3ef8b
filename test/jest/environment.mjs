import vm from 'node:vm';
import 'reflect-metadata';
import { ModuleMocker } from 'jest-mock';

/** Stands for the process's own context where jest asks for one. */
const HERE = globalThis;
const here = (options, key) => (options?.[key] === HERE ? { ...options, [key]: undefined } : options);

/** Node takes no name for the main context but `undefined`, and jest takes that for an environment that has ended. */
if (!vm.SourceTextModule.inMainContext) {
  const { SourceTextModule, SyntheticModule, compileFunction } = vm;
  vm.SourceTextModule = class extends SourceTextModule {
    static inMainContext = true;
    constructor(code, options) {
      super(code, here(options, 'context'));
    }
  };
  vm.SyntheticModule = class extends SyntheticModule {
    constructor(names, evaluate, options) {
      super(names, evaluate, here(options, 'context'));
    }
  };
  vm.compileFunction = (code, params, options) => compileFunction(code, params, here(options, 'parsingContext'));
}

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'uncaughtException', 'unhandledRejection'];
/** Where class-validator and TypeORM keep what decorators say. Ours are declared anew by every test file. */
const DECORATED = ['classValidatorMetadataStorage', 'typeormMetadataArgsStorage'];

/**
 * Test files run in the process's own context, with its own globals: a package that Node has loaded once for all of them
 * (see runtime.mjs) makes the same Error, Date and Promise that they look for. What one file changes in the process,
 * the next one must not see: the environment, listeners, globals.
 */
export default class Environment {
  global = globalThis;
  fakeTimers = null;
  fakeTimersModern = null;
  moduleMocker = new ModuleMocker(globalThis);
  #env = { ...process.env };
  #exit = process.exit;
  #directory = process.cwd();
  #console = console;
  #globals = new Set(Reflect.ownKeys(globalThis));
  #listeners = new Map(SIGNALS.map((signal) => [signal, process.listeners(signal)]));
  #context = HERE;

  constructor() {
    for (const key of DECORATED) delete globalThis[key];
  }
  async setup() {}

  async teardown() {
    this.#context = null;
    for (const key of Object.keys(process.env)) if (!(key in this.#env)) delete process.env[key];
    Object.assign(process.env, this.#env);
    process.exit = this.#exit;
    process.chdir(this.#directory);
    globalThis.console = this.#console;
    for (const [signal, before] of this.#listeners) {
      for (const listener of process.listeners(signal)) {
        if (!before.includes(listener)) process.off(signal, listener);
      }
    }
    for (const key of Reflect.ownKeys(globalThis)) {
      if (!this.#globals.has(key) && Object.getOwnPropertyDescriptor(globalThis, key)?.configurable) {
        delete globalThis[key];
      }
    }
  }

  exportConditions() {
    return ['node', 'node-addons'];
  }
  getVmContext() {
    return this.#context;
  }
}
