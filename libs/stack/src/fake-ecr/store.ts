import { createHash, randomUUID } from 'node:crypto';
import { AwsError } from './errors.js';

export interface StoredManifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly content: ManifestContent;
}
interface Pointer {
  readonly digest: string;
}
/** Only what the registry itself looks at. */
interface ManifestContent {
  readonly artifactType?: string;
  readonly annotations?: Record<string, string>;
  readonly subject?: Pointer;
  readonly config?: Pointer & { readonly mediaType: string };
  readonly layers?: readonly Pointer[];
  readonly manifests?: readonly Pointer[];
}

/** One repository, in memory. Blobs are its own: nothing is shared or mounted across repositories. */
export class Repository {
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, StoredManifest>();
  readonly tags = new Map<string, string>();
  private readonly uploads = new Map<string, Buffer[]>();

  constructor(
    readonly name: string,
    readonly arn: string,
    readonly immutable: boolean,
    readonly labels: Readonly<Record<string, string>>,
  ) {}

  startUpload(): string {
    const id = randomUUID();
    this.uploads.set(id, []);
    return id;
  }

  /** The size so far, or undefined when there is no such upload. */
  append(id: string, bytes: Buffer): number | undefined {
    const parts = this.uploads.get(id);
    parts?.push(bytes);
    return parts?.reduce((sum, { length }) => sum + length, 0);
  }

  /** Stores an upload as a blob. Throws when its bytes have another digest. */
  finishUpload(id: string, digest: string): void {
    const bytes = Buffer.concat(this.uploads.get(id) ?? []);
    this.uploads.delete(id);
    if (digestOf(bytes) !== digest) throw new AwsError('InvalidLayerException', 400, 'the digest does not match');
    this.blobs.set(digest, bytes);
  }

  /** Stores a manifest whose parts are all here, under its digest and perhaps a tag that never moves. */
  put(mediaType: string, bytes: Buffer, tag: string | undefined): StoredManifest {
    const content = JSON.parse(bytes.toString('utf8')) as ManifestContent;
    const digest = digestOf(bytes);
    const parts = [...(content.config ? [content.config] : []), ...(content.layers ?? [])];
    const missing = parts.find((part) => !this.blobs.has(part.digest));
    if (missing) throw new AwsError('LayersNotFoundException', 400, missing.digest);
    const child = (content.manifests ?? []).find((part) => !this.manifests.has(part.digest));
    if (child) throw new AwsError('ReferencedImagesNotFoundException', 400, child.digest);
    const held = tag === undefined ? undefined : this.tags.get(tag);
    if (this.immutable && held !== undefined && held !== digest) {
      throw new AwsError('ImageTagAlreadyExistsException', 400, `the tag ${String(tag)} is immutable`);
    }
    const stored = { digest, mediaType, bytes, content };
    this.manifests.set(digest, stored);
    if (tag !== undefined) this.tags.set(tag, digest);
    return stored;
  }

  /** By digest or tag. */
  find(reference: string): StoredManifest | undefined {
    return this.manifests.get(this.tags.get(reference) ?? reference);
  }

  referrers(digest: string): readonly StoredManifest[] {
    return [...this.manifests.values()].filter(({ content }) => content.subject?.digest === digest);
  }

  /** As AWS has it: a URL is given only for what some image refers to. */
  isReferenced(blob: string): boolean {
    return [...this.manifests.values()].some(({ content }) =>
      [content.config, ...(content.layers ?? [])].some((part) => part?.digest === blob),
    );
  }
}

export class Repositories {
  private readonly all = new Map<string, Repository>();

  constructor(private readonly prefix: string) {}

  arnOf(name: string): string {
    return `${this.prefix}:repository/${name}`;
  }

  create(name: string, immutable: boolean, labels: Readonly<Record<string, string>>): Repository {
    if (this.all.has(name)) throw new AwsError('RepositoryAlreadyExistsException', 400, `${name} exists`);
    const made = new Repository(name, this.arnOf(name), immutable, labels);
    this.all.set(name, made);
    return made;
  }

  get(name: string): Repository | undefined {
    return this.all.get(name);
  }

  require(name: string): Repository {
    const found = this.all.get(name);
    if (!found) throw new AwsError('RepositoryNotFoundException', 400, `there is no repository ${name}`);
    return found;
  }

  delete(name: string, force: boolean): Repository {
    const found = this.require(name);
    if (found.manifests.size > 0 && !force) throw new AwsError('RepositoryNotEmptyException', 400, name);
    this.all.delete(name);
    return found;
  }

  list(): readonly Repository[] {
    return [...this.all.values()];
  }
}

export function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
