/** The worker as promises. */
export class Recogniser {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #next = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.#worker.onerror = (event) => {
      const failed = new Error(event.message || "the worker could not be started");
      for (const { reject } of this.#waiting.values()) reject(failed);
      this.#waiting.clear();
    };
  }

  /** Loads the networks; rejects where this browser cannot run them, or fails the golden crop. */
  start() {
    return this.#ask("start", {});
  }

  /** See worker.js, look. Takes the bitmap over. */
  look(bitmap, most, { live = false, tests = false } = {}) {
    return this.#ask("look", { bitmap, most, live, tests }, [bitmap]);
  }

  #ask(kind, content, transferred = []) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, kind, content }, transferred);
    });
  }
}
