/** Images that Kubernetes objects name: where they are, and how they are put to another registry. */

/** A Kubernetes object as far as it is known here. */
export interface ImageOwner {
  readonly kind?: unknown;
}
export interface NamedImage {
  /** JSON Pointer. */
  readonly place: string;
  readonly image: string;
}

/** In these a field `image` is data of the vendor's own and nothing that a cluster pulls. */
const DATA = /^\/(data|stringData|binaryData)\//;
const CONTAINER_IMAGE = /\/(c|initC|ephemeralC)ontainers\/\d+\/image$/;
const VOLUME_IMAGE = /\/volumes\/\d+\/image\/reference$/;

/**
 * Every image that an object names: each text field `image` (custom resources have them in places of their own), and
 * image volumes. A field `image` of a container that is no text is a template without quotes, which YAML takes for a
 * mapping; it is named as such.
 */
export function imagesOf(object: ImageOwner): NamedImage[] {
  const found: NamedImage[] = [];
  mapImages(object, (image, place) => {
    found.push({ place, image });
    return image;
  });
  return found;
}

/** The object with each image that it names put through `rename`. */
export function mapImages<T extends ImageOwner>(object: T, rename: (image: string, place: string) => string): T {
  const isData = object.kind === 'ConfigMap' || object.kind === 'Secret';
  const visit = (value: unknown, at: string): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).map(([key, inner]: [string, unknown]): [string, unknown] => {
      const place = `${at}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
      if (isData && DATA.test(place)) return [key, inner];
      const isImage = key === 'image' || VOLUME_IMAGE.test(place);
      if (isImage && typeof inner === 'string' && inner !== '') return [key, rename(inner, place)];
      if (CONTAINER_IMAGE.test(place) && typeof inner === 'object') {
        rename(`${JSON.stringify(inner)} (a template needs quotes)`, place);
        return [key, inner];
      }
      return [key, visit(inner, place)];
    });
    return Array.isArray(value) ? entries.map(([, inner]) => inner) : Object.fromEntries(entries);
  };
  return visit(object, '') as T;
}

/** The name with the host and folder that container run-times add to a short one: `nginx:1` is `docker.io/library/nginx:1`. */
export function fullImageName(image: string): string {
  const slash = image.indexOf('/');
  const host = slash < 0 ? '' : image.slice(0, slash);
  if (/[.:]|^localhost$/.test(host)) return image;
  return `docker.io/${slash < 0 ? 'library/' : ''}${image}`;
}
