export {
  referencesOf,
  referenceText,
  checkReferences,
  render,
  isReferenceKey,
  type Reference,
  type PlacedReference,
  type ReferenceNames,
  type ReferenceScope,
} from './references.js';
