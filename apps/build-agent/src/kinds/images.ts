import { ImsError } from '#contracts';

const CONTAINER_LISTS = ['containers', 'initContainers', 'ephemeralContainers'];

/** Every image that a Kubernetes object names, with the place in it. */
export function imagesOf(object: unknown, at = ''): { readonly place: string; readonly image: string }[] {
  if (typeof object !== 'object' || object === null) return [];
  return Object.entries(object).flatMap(([key, value]) => {
    const place = `${at}/${key}`;
    const own = CONTAINER_LISTS.includes(key) && Array.isArray(value) ? (value as unknown[]) : [];
    const named = own.flatMap((container, i) => {
      const image: unknown =
        typeof container === 'object' && container !== null && 'image' in container ? container.image : undefined;
      return typeof image === 'string' ? [{ place: `${place}/${i}/image`, image }] : [];
    });
    return [...named, ...imagesOf(value, place)];
  });
}

/** Fails the build with every image that would be pulled from outside. */
export function assertNoExternalImages(
  found: readonly { readonly where: string; readonly image: string }[],
  allowed: (image: string) => boolean,
): void {
  const external = found.filter(({ image }) => !allowed(image));
  if (external.length === 0) return;
  throw new ImsError(
    'external_reference',
    external
      .map(({ where, image }) => `${where}: ${image}`)
      .join('; ')
      .slice(0, 2_000),
  );
}
