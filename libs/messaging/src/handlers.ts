import 'reflect-metadata';
import { type DiscoveryService, type MetadataScanner } from '@nestjs/core';
import { type AnyContract, type Call, type ServiceName, type Signal, type StreamMessage } from '#contracts';
import { type Outcome } from './settlement.js';
import { labelOf, type MessageContext } from './wire.js';

/** A decorator that compiles only on a method of this type: a wrong body or reply is an error of the compiler. */
export type TypedMethodDecorator<F> = <T extends F>(
  target: object,
  key: string | symbol,
  descriptor: TypedPropertyDescriptor<T>,
) => void;

const HANDLES = Symbol('ims:handles');

function handles(contract: AnyContract): TypedMethodDecorator<unknown> {
  return (_target, _key, descriptor) => {
    const method = descriptor.value as object;
    const before = (Reflect.getMetadata(HANDLES, method) ?? []) as AnyContract[];
    Reflect.defineMetadata(HANDLES, [...before, contract], method);
  };
}

/** The method answers this call. What it throws is the answer too: an ImsError by its code, anything else as `internal`. */
export const Serves = <B extends object, R extends object>(
  contract: Call<B, R>,
): TypedMethodDecorator<(body: B, context: MessageContext) => Promise<R>> => handles(contract);

/**
 * The method deals with each message of this contract, at least once: returning acknowledges it, see Outcome for the
 * rest. Messages with the same `{job}` come one after the other (as far as one replica and no retry is concerned).
 */
export const Consumes = <B extends object>(
  contract: StreamMessage<B>,
): TypedMethodDecorator<(body: B, context: MessageContext) => Promise<Outcome>> => handles(contract);

/** The method hears this signal, in every replica. */
export const Hears = <B extends object>(
  contract: Signal<B>,
): TypedMethodDecorator<(body: B, context: MessageContext) => void> => handles(contract);

/** One decorated method of one provider. */
export interface BoundHandler {
  readonly contract: AnyContract;
  /** `Class.method`, for people. */
  readonly at: string;
  readonly invoke: (body: object, context: MessageContext) => unknown;
}

/** All decorated methods of the application. Throws for a provider that is not a singleton: messages have no request scope. */
export function findHandlers(discovery: DiscoveryService, scanner: MetadataScanner): BoundHandler[] {
  return [...discovery.getProviders(), ...discovery.getControllers()].flatMap((wrapper) => {
    const instance = wrapper.instance as Record<string, unknown> | null | undefined;
    if (typeof instance !== 'object' || instance === null) return [];
    const prototype = Object.getPrototypeOf(instance) as object | null;
    return scanner.getAllMethodNames(prototype).flatMap((name) => {
      // A getter is not a handler, and reading it here would run it.
      const method = methodOf(prototype, name);
      if (!method) return [];
      const contracts = (Reflect.getMetadata(HANDLES, method) ?? []) as AnyContract[];
      const at = `${instance.constructor.name}.${name}`;
      if (contracts.length > 0 && !wrapper.isDependencyTreeStatic()) {
        throw new Error(`${at} handles messages, so its class must be a singleton, not request-scoped`);
      }
      return contracts.map((contract) => ({ contract, at, invoke: method.bind(instance) }));
    });
  });
}

function methodOf(prototype: object | null, name: string): ((...args: unknown[]) => unknown) | undefined {
  for (let at = prototype; at !== null; at = Object.getPrototypeOf(at) as object | null) {
    const found: unknown = Object.getOwnPropertyDescriptor(at, name)?.value;
    if (typeof found === 'function') return found as (...args: unknown[]) => unknown;
  }
  return undefined;
}

/** Whether the contract is for this service to handle, and with which decorator. */
function decoratorFor(contract: AnyContract, service: ServiceName): string | undefined {
  switch (contract.type) {
    case 'call':
      return contract.servedBy === service ? 'Serves' : undefined;
    case 'stream':
      return contract.consumers.includes(service) ? 'Consumes' : undefined;
    case 'signal':
      return contract.to.includes(service) ? 'Hears' : undefined;
  }
}

/**
 * Throws one error naming every fault when a contract that names the service has no handler or two, or when a
 * handler is for a contract that does not name it. Silence at run time becomes a line at boot.
 */
export function checkHandlers(
  service: ServiceName,
  bound: readonly BoundHandler[],
  contracts: readonly AnyContract[],
  unhandled: readonly AnyContract[] = [],
): void {
  const faults: string[] = [];
  for (const contract of contracts) {
    const decorator = decoratorFor(contract, service);
    if (!decorator || unhandled.includes(contract)) continue;
    const own = bound.filter((handler) => handler.contract === contract).map((handler) => handler.at);
    const what = `${labelOf(contract)} (body ${contract.body.name})`;
    if (own.length === 0) faults.push(`${what} has no handler: add @${decorator} to a method`);
    if (own.length > 1) faults.push(`${what} has ${own.length} handlers, keep one @${decorator}: ${own.join(', ')}`);
  }
  for (const { contract, at } of bound) {
    const known = contracts.includes(contract);
    if (known && decoratorFor(contract, service)) continue;
    const why = known ? `which does not name ${service}` : 'which is not in CONTRACTS';
    faults.push(`${at} handles ${labelOf(contract)}, ${why}: remove the decorator`);
  }
  if (faults.length > 0) throw new Error(`${service} cannot start:\n  ${faults.join('\n  ')}`);
}
