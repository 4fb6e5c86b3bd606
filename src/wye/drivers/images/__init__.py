"""Images: root file systems that containers start from. `store.ImageStore` satisfies `interfaces.Images`.

Three ways lead to an image: a catalogue recipe (`catalogue`, Debian packages), an OCI reference (`registry`,
skopeo and umoci) and a directory of Python code (`python_build`). All three work in a staging directory of
the `shelf`, which publishes a finished image with one rename, so that an unfinished one is never seen.
Whatever runs while an image is made runs in a `chamber`: a user namespace without rights on the host.
"""
