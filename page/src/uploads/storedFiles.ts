/**
 * Files of unfinished uploads, stored in the browser (IndexedDB) until they have arrived, so that a reloaded page can
 * continue: it may not read files that were given to an earlier page.
 */

export interface Kept {
  id: string;
  userId: string;
  file: File;
  /** The options of processing, as JSON; empty for everything. */
  options: string;
  /** The upload's id at the server; empty before it is created. */
  uploadId: string;
  createTime: number;
}

const STORE = "uploads";

function open(): Promise<IDBDatabase> {
  const opening = indexedDB.open("stemtube", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
  return answer(opening);
}

function answer<Result>(asked: IDBRequest<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function use<Result>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<Result>): Promise<Result> {
  const database = await open();
  try {
    return await answer(work(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

/** Stores a file, or updates it. @throws DOMException there is no room, or the browser stores nothing. */
export async function keep(kept: Kept): Promise<void> {
  await use("readwrite", (store) => store.put(kept));
}

export async function drop(id: string): Promise<void> {
  await use("readwrite", (store) => store.delete(id));
}

/** The file with an id, if it is stored. */
export function find(id: string): Promise<Kept | undefined> {
  return use("readonly", (store) => store.get(id) as IDBRequest<Kept | undefined>);
}

/** All files of a user, in their order. Those of others are deleted, because nobody else can send them. */
export async function keptOf(userId: string): Promise<Kept[]> {
  const all = await use("readonly", (store) => store.getAll() as IDBRequest<Kept[]>);
  await Promise.all(all.filter((kept) => kept.userId !== userId).map(({ id }) => drop(id)));
  return all.filter((kept) => kept.userId === userId).sort((one, other) => one.createTime - other.createTime);
}
